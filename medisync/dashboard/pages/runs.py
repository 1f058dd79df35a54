"""Every run of the workspace: those that can be shown, and why the others cannot."""

import streamlit as st

from medisync.dashboard import data, tables
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

unreadable = [listing for listing in listings if not listing.record]
if unreadable:
    st.subheader("Unfinished or unreadable")
    for listing in unreadable:
        st.warning(tables.problem(listing.name, listing.problem, data.progress(listing)), icon=":material/report:")
