"""Every run of the workspace: those that can be shown, side by side, and why the others cannot."""

from collections.abc import Mapping, Sequence

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import formatting
from medisync.reporting.charts import performance
from medisync.reporting.tables import history_tables, metric_tables, settings_tables
from medisync.schemas import ModelMeta, RunRecord
from medisync.workspace.artifacts import RunListing


def choose(name: str) -> None:
    st.session_state[data.RUN_KEY] = name


def show_finished(found: Sequence[tuple[RunRecord, ModelMeta]], current: RunListing | None) -> None:
    components.table(metric_tables.runs(found), "Every finished run")
    st.caption("All pages show the run that is marked here, or chosen in the sidebar.")
    with st.container(horizontal=True):
        for record, _ in found:
            shown = current is not None and record.run == current.name
            st.button(
                f"{record.run} is shown" if shown else f"Show {record.run}",
                key=f"show-{record.run}",
                on_click=choose,
                args=(record.run,),
                disabled=shown,
                icon=":material/visibility:",
            )


def compare(names: Mapping[str, tuple[RunRecord, ModelMeta]]) -> None:
    st.subheader("Side by side")
    chosen = st.pills("Runs to compare", list(names), default=list(names)[:2], selection_mode="multi")
    if not 2 <= len(chosen) <= 4:
        st.caption("Choose two to four.")
        return
    pairs = [names[name] for name in chosen]
    different = settings_tables.parameters([record for record, _ in pairs])
    if different is None:
        st.info("All parameters are the same.", icon=":material/info:")
    else:
        st.markdown("##### Parameters that differ")
        components.table(different, "Parameters that differ between the runs")
    st.markdown("##### What came of it, with 95 % intervals")
    components.table(settings_tables.figures([meta for _, meta in pairs]), "Test figures of the runs")
    for column, (record, meta) in zip(st.columns(len(pairs)), pairs, strict=True):
        with column:
            st.markdown(f"**{formatting.escape(record.run)}**")
            components.chart(performance.confusion(meta.metrics.test), key=f"confusion-{record.run}")


listings = data.list_runs()
if not listings:
    components.require_run()

st.title("Runs")
found = [(data.record(listing), data.meta(listing)) for listing in listings if listing.record]
st.subheader("Finished")
if found:
    show_finished(found, data.selected())
else:
    st.info("None yet.", icon=":material/info:")
if len(found) > 1:
    compare({record.run: (record, meta) for record, meta in found})
for record, _ in found:
    with st.expander(f"Parameters and software of {record.run}"):
        components.table(settings_tables.settings(record), "Parameters and software of the run")

unreadable = [listing for listing in listings if not listing.record]
if unreadable:
    st.subheader("Unfinished or unreadable")
    for listing in unreadable:
        st.warning(
            history_tables.problem(listing.name, listing.problem, data.progress(listing)), icon=":material/report:"
        )
