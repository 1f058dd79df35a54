"""Every run of the workspace: those that can be shown, and why the others cannot."""

import streamlit as st

from medisync.dashboard import charts, comparison, data, tables, words
from medisync.dashboard.pages import parts

listings = data.list_runs()
if not listings:
    parts.require_run()

st.title("Runs")
readable = [listing for listing in listings if listing.record]
st.subheader("Finished")
if readable:
    found = [(data.record(listing), data.meta(listing)) for listing in readable]
    st.table(tables.runs(found), border="horizontal", hide_index=True)
    st.caption("The run picker in the sidebar sets what the other pages show.")
else:
    st.info("None yet.", icon=":material/info:")

if len(readable) > 1:
    st.subheader("Side by side")
    names = {record.run: (record, meta) for record, meta in found}
    chosen = st.multiselect("Runs to compare", list(names), default=list(names)[:2], max_selections=4)
    if len(chosen) > 1:
        pairs = [names[name] for name in chosen]
        different = comparison.parameters([record for record, _ in pairs])
        if different is None:
            st.info("All parameters are the same.", icon=":material/info:")
        else:
            st.markdown("##### Parameters that differ")
            st.table(different, border="horizontal", hide_index=True)
        st.markdown("##### What came of it")
        st.table(comparison.figures([meta for _, meta in pairs]), border="horizontal", hide_index=True)
        for column, (record, meta) in zip(st.columns(len(pairs)), pairs, strict=True):
            with column:
                st.markdown(f"**{words.escape(record.run)}**")
                parts.chart(charts.confusion(meta.metrics.test), key=f"confusion-{record.run}")

unreadable = [listing for listing in listings if not listing.record]
if unreadable:
    st.subheader("Unfinished or unreadable")
    for listing in unreadable:
        st.warning(tables.problem(listing.name, listing.problem, data.progress(listing)), icon=":material/report:")
