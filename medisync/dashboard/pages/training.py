"""Training: loss, accuracy, client drift and participation over the rounds, and runs in progress."""

from collections.abc import Sequence

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import formatting, headlines, sentences, tables
from medisync.reporting.charts import traffic, training_curves
from medisync.schemas import HistoryEntry


@st.fragment(run_every=2)
def show_running() -> None:
    """Draws runs in progress, every two seconds, without the rest of the page."""
    for name, progress, history in data.running():
        with st.container(border=True):
            st.markdown(sentences.run_in_progress(name, progress))
            components.round_progress(progress)
            if history:
                components.chart(training_curves.accuracies(history, history[-1].epoch), key=f"live-{name}")


@st.fragment
def show_line(history: Sequence[HistoryEntry]) -> None:
    """Draws the choice of a line's speed and how long the run takes on it; the slider redraws only this."""
    speed = st.select_slider(
        "A hospital's line, each way",
        traffic.LINE_SPEEDS,
        value=20,
        format_func=lambda megabits: f"{megabits} Mbit/s",
        key="line-speed",
        persist_state="session",
    )
    on_line, computing = traffic.line_seconds(history, speed), sum(entry.seconds for entry in history)
    with st.container(horizontal=True):
        st.metric("Time for the traffic", formatting.duration(on_line))
        st.metric("Rounds as recorded", formatting.duration(computing))
        st.metric("Together", formatting.duration(on_line + computing))
    st.caption(
        "Computed from the bytes of each round and the speed, without delays and losses on the line. The rounds of a run over a "
        "network already contain the time on its own network."
    )


show_running()
run = components.require_run()
meta = data.meta(run)
history = data.history(run)
hospitals = list(meta.datasets)

st.title("Training")
if not history:
    st.info("This run recorded no rounds.", icon=":material/info:")
    st.stop()
components.headlines(headlines.training(history, meta))

st.subheader("Global model")
left, right = st.columns(2, gap="large")
with left:
    components.chart(training_curves.losses(history, meta.best_epoch))
with right:
    components.chart(training_curves.accuracies(history, meta.best_epoch))
st.caption(
    "Training figures are measured on augmented images, which are harder (the model card says how they are augmented). "
    "Validation figures are measured on unchanged images."
)

st.subheader("By hospital")
left, right = st.columns(2, gap="large")
with left:
    components.chart(training_curves.hospital_losses(history, meta.best_epoch, hospitals))
with right:
    components.chart(training_curves.hospital_accuracies(history, meta.best_epoch, hospitals))
left, right = st.columns(2, gap="large")
with left:
    components.chart(training_curves.update_sizes(history, meta.best_epoch, hospitals))
drifts = training_curves.drifts(history, meta.best_epoch, hospitals)
with right:
    if drifts:
        components.chart(drifts)
    else:
        components.heading("Client drift")
        st.caption("This run did not measure client drift.")

st.subheader("Participation, time and traffic")
components.table(tables.participation(history), "Rounds, training time and network traffic of each hospital")
if drawn := traffic.accuracy_by_traffic(history):
    left, right = st.columns(2, gap="large")
    with left:
        components.chart(drawn)
    with right:
        show_line(history)
refusals = sentences.refusals(history)
if refusals:
    st.warning("\n\n".join(refusals), icon=":material/block:")
else:
    st.success("Every hospital answered in every round, and every update was accepted.", icon=":material/check_circle:")
if remarks := sentences.remarks(history):
    components.heading("Accepted updates with remarks")
    st.warning("\n\n".join(remarks), icon=":material/troubleshoot:")
with st.expander("Validated rounds as a table"):
    components.table(tables.rounds(history, meta.best_epoch), "Loss, accuracy, learning rate and time of each round")
