"""Training: loss, accuracy, client drift and participation over the rounds, and runs in progress."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import headlines, sentences, tables
from medisync.reporting.charts import training_curves


@st.fragment(run_every=2)
def show_running() -> None:
    """Draws runs in progress, every two seconds, without the rest of the page."""
    for name, progress, history in data.running():
        with st.container(border=True):
            st.markdown(sentences.run_in_progress(name, progress))
            components.round_progress(progress)
            if history:
                components.chart(training_curves.accuracies(history, history[-1].epoch), key=f"live-{name}")


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
