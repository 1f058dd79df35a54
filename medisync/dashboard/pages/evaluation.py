"""How the global model does on scans that neither training nor selection has seen."""

import streamlit as st

from medisync.dashboard import components, data, predictions
from medisync.errors import ModelError
from medisync.reporting import formatting
from medisync.reporting.charts import model_comparison, performance
from medisync.reporting.tables import metric_tables

SHOWN = 12
"""Mistakes shown at once."""


def show_mistakes(hospital: str | None) -> None:
    """The worst of them, found at the reader's request, because it takes a minute."""
    st.subheader("Most confidently wrong")
    st.caption(
        "Only a hospital itself could see this: in a federation, single scans and single predictions never leave it. It "
        "can be shown here because this is a simulation and the hospitals' scans are on this machine."
    )
    if data.known_mistakes(run) is None and not data.has_dataset(run):
        st.info("The dataset is not on this machine, so there is nothing to look at.", icon=":material/info:")
        return
    if data.known_mistakes(run) is None and not st.button("Predict all test scans", icon=":material/image_search:"):
        return
    bar = st.empty()
    try:
        found = predictions.find_mistakes(run, lambda share: bar.progress(share, "Predicting the test scans…"))
    except ModelError as problem:
        bar.error(f"The model of this run cannot be used: {formatting.sentence(str(problem))}", icon=":material/error:")
        return
    bar.empty()
    draw_mistakes([mistake for mistake in found if hospital in (None, mistake.hospital)])


def draw_mistakes(mistakes: list[data.Mistake]) -> None:
    st.markdown(metric_tables.mistakes_summary(len(mistakes), SHOWN))
    with st.container(horizontal=True):
        for mistake in mistakes[:SHOWN]:
            with st.container(width=200):
                pixels = data.picture(mistake.path)
                if pixels is not None:
                    st.image(
                        pixels, width="stretch", alt=metric_tables.mistake_words(mistake.label, mistake.prediction)
                    )
                st.markdown(metric_tables.mistake(mistake.label, mistake.prediction))
                st.caption(formatting.escape(mistake.hospital), help=formatting.escape(mistake.path))


run = components.require_run()
meta = data.meta(run)

st.title("Evaluation")
st.caption(metric_tables.test_set_note(meta))
scope = st.selectbox("Test scans of", [None, *meta.metrics.hospitals], format_func=formatting.scope_name, width=320)
metrics = meta.metrics.test if scope is None else meta.metrics.hospitals[scope]
if not metrics.n:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")
    st.stop()
components.headlines(metric_tables.headlines(metrics))

left, right = st.columns(2, gap="large")
with left:
    components.chart(performance.confusion(metrics))
with right:
    components.chart(performance.reliability(metrics))

st.subheader("Class by class")
components.table(metric_tables.per_class_in_full(metrics), "Figures of each class, with 95 % intervals")
left, right = st.columns(2, gap="large")
with left:
    if any(found.roc for found in metrics.per_class.values()):
        components.chart(performance.roc(metrics))
with right:
    st.markdown("##### Can its doubts be relied on")
    components.table(metric_tables.trust(metrics), "What the model says of its own limits, and how often that is right")

st.subheader("Hospital by hospital")
components.chart(performance.hospital_accuracy(meta))
components.table(metric_tables.per_hospital(meta), "Figures of the global model at each hospital")

compared = data.baselines(run)
if compared and len(compared.models) > 1:
    st.subheader("Against the alternatives")
    left, right = st.columns(2, gap="large")
    with left:
        components.chart(model_comparison.accuracies(compared))
    with right:
        components.chart(model_comparison.accuracy_matrix(compared))
    with st.expander("Federated minus each other model, on the same scans"):
        components.table(model_comparison.differences(compared), "Differences in accuracy with paired intervals")
    st.caption("Same splits, rounds and passes over each scan. Intervals resample groups of related scans in pairs.")

show_mistakes(scope)
