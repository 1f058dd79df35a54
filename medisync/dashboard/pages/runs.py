"""Runs: the finished runs of the workspace, their differences, and why other runs cannot be shown."""

from collections.abc import Mapping, Sequence

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import formatting, run_comparison, sentences
from medisync.reporting.charts import performance
from medisync.schemas import ModelMeta, RunRecord
from medisync.workspace.artifacts import RunListing


def choose(name: str) -> None:
    st.session_state[data.RUN_KEY] = name


def show_finished(found: Sequence[tuple[RunRecord, ModelMeta]], current: RunListing | None) -> None:
    components.table(run_comparison.runs(found), "All finished runs")
    st.caption("All pages show the run that is chosen here or in the sidebar.")
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
    st.subheader("Comparison")
    chosen = st.pills("Runs to compare", list(names), default=list(names)[:2], selection_mode="multi")
    if not 2 <= len(chosen) <= 4:
        st.caption("Choose two to four runs.")
        return
    records, metas = zip(*(names[name] for name in chosen), strict=True)
    different = run_comparison.different_parameters(records)
    if different.empty:
        st.info("All parameters are the same.", icon=":material/info:")
    else:
        components.heading("Parameters that differ")
        components.table(different, "Parameters that differ between the runs")
    components.heading("Test results, with 95 % intervals")
    components.table(run_comparison.test_figures(metas), "Test results of the runs")
    for column, meta in zip(st.columns(len(metas)), metas, strict=True):
        with column:
            st.markdown(f"**{formatting.escape(meta.run)}**")
            components.chart(performance.confusion(meta.metrics.test), key=f"confusion-{meta.run}")


listings = data.list_runs()
if not listings:
    components.require_run()

st.title("Runs")
found = [(data.record(listing), data.meta(listing)) for listing in listings if listing.record]
st.subheader("Finished")
for listing in listings:
    if listing.note:
        st.warning(formatting.sentence(listing.note), icon=":material/content_copy:")
if found:
    show_finished(found, data.selected())
else:
    st.info("No finished runs yet.", icon=":material/info:")
if len(found) > 1:
    compare({record.run: (record, meta) for record, meta in found})
for record, _ in found:
    with st.expander(f"Parameters and software of {record.run}"):
        components.table(run_comparison.parameters(record), "Parameters and software of the run")

unreadable = [listing for listing in listings if not listing.record]
if unreadable:
    st.subheader("Unfinished or unreadable")
    for listing in unreadable:
        reason = sentences.unreadable_run(listing.name, listing.problem, data.progress(listing))
        st.warning(reason, icon=":material/report:")
