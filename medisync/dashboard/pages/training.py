"""How the rounds went: loss and accuracy, globally and hospital by hospital, and what was refused."""

import streamlit as st

from medisync.dashboard import curves, data, tables
from medisync.dashboard.pages import parts


@st.fragment(run_every=2)
def show_running() -> None:
    """Runs in progress, redrawn every two seconds without the rest of the page."""
    for name, standing, history in data.running():
        with st.container(border=True):
            st.markdown(tables.standing(name, standing))
            st.progress(standing.round / max(1, standing.rounds))
            if history:
                parts.chart(curves.accuracies(history, history[-1].epoch), key=f"live-{name}")


show_running()
run = parts.require_run()
meta = data.meta(run)
history = data.history(run)
hospitals = list(meta.datasets)

st.title("Training")
if not history:
    st.info("This run recorded no round, so there is nothing to draw.", icon=":material/info:")
    st.stop()
parts.headlines(tables.training_headlines(history, meta))

st.subheader("The global model")
left, right = st.columns(2, gap="large")
with left:
    parts.chart(curves.losses(history, meta.best_epoch))
with right:
    parts.chart(curves.accuracies(history, meta.best_epoch))

st.subheader("Hospital by hospital")
left, right = st.columns(2, gap="large")
with left:
    parts.chart(curves.hospital_losses(history, meta.best_epoch, hospitals))
with right:
    parts.chart(curves.hospital_accuracies(history, meta.best_epoch, hospitals))

left, right = st.columns(2, gap="large")
with left:
    parts.chart(curves.update_sizes(history, meta.best_epoch, hospitals))
with right:
    st.markdown("##### Updates refused")
    refusals = tables.refusals(history)
    if refusals:
        st.warning("\n\n".join(refusals), icon=":material/block:")
    else:
        st.success("None: every update entered the average in every round.", icon=":material/check_circle:")
    if remarks := tables.remarks(history):
        st.markdown("##### Updates that stood out")
        st.warning("\n\n".join(remarks), icon=":material/troubleshoot:")
with st.expander("All rounds as a table"):
    st.table(tables.rounds(history), border="horizontal", hide_index=True)
