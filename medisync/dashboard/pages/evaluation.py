"""Evaluation: the global model on held-out test scans, beside other models, and its most confident errors."""

from collections.abc import Mapping, Sequence

import streamlit as st

from medisync.dashboard import components, data, predictions, privacy
from medisync.errors import ModelError
from medisync.reporting import formatting, headlines, outside, prediction_tables, sentences, tables, verdicts
from medisync.reporting.charts import model_comparison, performance, selective_prediction
from medisync.schemas import BaselineRecord, ExternalEvaluation, Metrics, ModelMeta, ModelMetrics
from medisync.workspace.artifacts import RunListing

SHOWN = 12
"""Misclassified scans shown at once."""


def show_mistakes(run: RunListing, hospital: str | None) -> None:
    """Draws the most confident errors, computed on request because it takes a minute."""
    st.subheader("Most confident errors")
    st.caption(
        "In a real federation only the hospital itself could see this: single scans and predictions never leave it. They "
        "can be shown here because this is a simulation and all hospitals' scans are on this machine."
    )
    if data.known_mistakes(run) is None and not data.has_dataset(run):
        st.info(components.NO_DATASET, icon=":material/info:")
        return
    if data.known_mistakes(run) is None and not st.button("Predict all test scans", icon=":material/image_search:"):
        return
    bar = st.empty()
    try:
        found = predictions.find_mistakes(run, lambda done: bar.progress(done, "Predicting the test scans…"))
    except ModelError as problem:
        components.model_error(problem, bar.error)
        return
    bar.empty()
    draw_mistakes([mistake for mistake in found if hospital in (None, mistake.hospital)])


def draw_mistakes(mistakes: Sequence[data.Mistake]) -> None:
    st.markdown(prediction_tables.mistakes_summary([mistake.prediction for mistake in mistakes], SHOWN))
    with st.container(horizontal=True):
        for mistake in mistakes[:SHOWN]:
            with st.container(width=200):
                pixels, alt = (
                    data.picture(mistake.path),
                    prediction_tables.mistake_alt(mistake.label, mistake.prediction),
                )
                if pixels is not None:
                    st.image(pixels, width="stretch", alt=alt)
                st.markdown(prediction_tables.mistake_caption(mistake.label, mistake.prediction))
                st.caption(formatting.escape(mistake.hospital), help=formatting.escape(mistake.path))


EXAMPLE = """"elsewhere": {
    "role": "external",
    "path": "elsewhere",
    "source": "where they come from",
    "licence": "CC0",
    "class_map": {"glioma": "glioma", "healthy": "notumor", "metastasis": "other"},
},"""


def show_uncertainty(meta: ModelMeta, metrics: Metrics, elsewhere: Metrics | None) -> None:
    """Draws how far confidence, prediction sets, the OOD score and verdicts can be relied on."""
    components.heading("Uncertainty quality")
    alt = "Calibration, prediction sets, OOD score and verdicts on these scans"
    components.table(tables.uncertainty(metrics, elsewhere), alt)
    if said := verdicts.thresholds(meta):
        st.caption(formatting.escape(said, 1000))


def show_outside(
    found: ModelMetrics, external: Mapping[str, ExternalEvaluation], compared: BaselineRecord | None
) -> None:
    """Draws how the model does on scans from outside the hospitals, or says how to measure it."""
    st.subheader("Outside the hospitals")
    if external:
        if found.test_elsewhere:
            st.caption(sentences.AS_IF_FROM_ANYWHERE)
        draw_outside(outside.inside(found), external)
    else:
        st.info(sentences.NO_EXTERNAL_SET, icon=":material/info:")
        st.markdown(
            "To measure it, put class folders of scans from elsewhere under `dataset/`, add an entry such as this to "
            "`DATASETS` in `notebook.ipynb`, and train again. Such scans are only evaluated, once, at the end. `other` "
            "stands for scans that are of none of the classes."
        )
        st.code(EXAMPLE, language="python")
    without = outside.left_out_hospitals(compared) if compared else None
    if without is not None and not without.empty:
        components.heading("A hospital that the model was not trained at")
        components.table(without, "Accuracy at each hospital, trained with and without it")


def draw_outside(inside: Metrics, external: Mapping[str, ExternalEvaluation]) -> None:
    components.chart(selective_prediction.answers(inside, external))
    st.caption(sentences.no_answers(inside))
    left, right = st.columns(2, gap="large")
    with left:
        components.chart(selective_prediction.risk_coverage(inside, external))
    with right:
        components.chart(selective_prediction.reliability(inside, external))
    name = next(iter(external))
    if len(external) > 1:
        name = st.selectbox("External dataset", list(external), format_func=formatting.plain, width=320)
    found = external[name]
    st.markdown(sentences.external_set(name, found))
    if not outside.claims(found):
        return
    components.heading("What holds outside")
    components.table(outside.claim_table(found), "What this project aims at outside the hospitals, and what was found")
    components.heading("Inside and outside")
    components.table(outside.figures(inside, found), "The hospitals' test scans and those from outside")
    with st.expander("Outside, by class and by folder"):
        if found.known:
            components.table(tables.per_class(found.known), "Metrics of each class outside, with 95 % intervals")
        components.table(outside.scans(found), "Folders and their classes")


run = components.require_run()
meta = data.meta(run)

st.title("Evaluation")
st.caption(sentences.test_set_note(meta))
scope = st.selectbox("Test scans of", [None, *meta.metrics.hospitals], format_func=formatting.scope_name, width=320)
metrics = meta.metrics.test if scope is None else meta.metrics.hospitals[scope]
elsewhere = meta.metrics.test_elsewhere if scope is None else None
external = data.external(run)
if not metrics.n:
    st.info("This hospital has no test scans, so its metrics are undefined.", icon=":material/info:")
    st.stop()
components.headlines(headlines.test_metrics(metrics, meta.metrics.hospitals if scope is None else {}))

left, right = st.columns(2, gap="large")
with left:
    components.chart(performance.confusion(metrics))
with right:
    components.chart(performance.reliability(metrics))

st.subheader("Performance by class")
components.table(tables.per_class(metrics), "Metrics of each class, with 95 % intervals")
left, right = st.columns(2, gap="large")
with left:
    if any(found.roc for found in metrics.per_class.values()):
        components.chart(performance.roc(metrics))
    if scope is None and not external and verdicts.has_verdicts(metrics):
        components.chart(selective_prediction.risk_coverage(metrics, {}))
with right:
    show_uncertainty(meta, metrics, elsewhere)

st.subheader("Performance by hospital")
components.chart(performance.hospital_accuracy(meta))
components.table(
    tables.metrics(meta.metrics.test, meta.metrics.hospitals, meta.metrics.test_elsewhere),
    "Metrics of the global model at each hospital",
)
if meta.metrics.test_elsewhere:
    st.caption(sentences.KNOWING_THE_HOSPITAL)
    with st.expander("By class, as if the hospital were not known"):
        components.table(tables.per_class(meta.metrics.test_elsewhere), "Metrics of each class, hospital not known")

compared = data.baselines(run)
show_outside(meta.metrics, external, compared)

if compared and len(compared.models) > 1:
    st.subheader("Comparison with local and pooled training")
    left, right = st.columns(2, gap="large")
    with left:
        components.chart(model_comparison.accuracies(compared))
    with right:
        components.chart(model_comparison.accuracy_matrix(compared))
    with st.expander("Federated minus each other model, on the same scans"):
        components.table(tables.differences(compared), "Differences in accuracy with paired intervals")
    st.caption(
        "All models use the same splits, rounds and epochs. Intervals of differences are from a paired bootstrap over groups "
        "of related scans."
    )

privacy.show(run)
show_mistakes(run, scope)
