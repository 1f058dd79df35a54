"""How the rounds went: loss and accuracy, globally and hospital by hospital, and what was refused."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting.charts import training_curves
from medisync.reporting.tables import history_tables


@st.fragment(run_every=2)
def show_running() -> None:
    """Runs in progress, redrawn every two seconds without the rest of the page."""
    for name, standing, history in data.running():
        with st.container(border=True):
            st.markdown(history_tables.standing(name, standing))
            st.progress(standing.round / max(1, standing.rounds))
            if history:
                components.chart(training_curves.accuracies(history, history[-1].epoch), key=f"live-{name}")


show_running()
run = components.require_run()
meta = data.meta(run)
history = data.history(run)
hospitals = list(meta.datasets)

st.title("Training")
if not history:
    st.info("This run recorded no round, so there is nothing to draw.", icon=":material/info:")
    st.stop()
components.headlines(history_tables.training_headlines(history, meta))

st.subheader("The global model")
left, right = st.columns(2, gap="large")
with left:
    components.chart(training_curves.losses(history, meta.best_epoch))
with right:
    components.chart(training_curves.accuracies(history, meta.best_epoch))
st.caption(
    "Training figures are of images as they are changed for training, which is harder (the model card says how); validation "
    "figures are of images as they are."
)

st.subheader("Hospital by hospital")
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
        st.markdown("##### Client drift")
        st.caption("This run is from before the distance between hospitals' updates was measured.")

st.subheader("What the rounds took")
components.table(history_tables.hospitals(history), "Rounds, time and traffic of each hospital")
refusals = history_tables.refusals(history)
if refusals:
    st.warning("\n\n".join(refusals), icon=":material/block:")
else:
    st.success("Every hospital answered, and every update entered the average.", icon=":material/check_circle:")
if remarks := history_tables.remarks(history):
    st.markdown("##### Updates that stood out")
    st.warning("\n\n".join(remarks), icon=":material/troubleshoot:")
with st.expander("All rounds as a table"):
    components.table(history_tables.rounds(history), "Loss, accuracy, learning rate and time of every round")
