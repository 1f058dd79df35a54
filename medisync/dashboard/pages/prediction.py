"""What the run's model says about uploaded scans. They stay in this session's memory and are named in no log."""

from typing import TYPE_CHECKING

import streamlit as st

from medisync import images
from medisync.dashboard import charts, data, tables, words
from medisync.dashboard.pages import parts
from medisync.errors import ImageError, ModelError
from medisync.records import Prediction

if TYPE_CHECKING:
    from medisync.inference import Classifier

PLAUSIBLE = "The 90 % prediction set: for scans like the training scans, nine of ten such sets hold the true class."
ACCEPTED = ["png", "jpg", "jpeg", "tif", "tiff", "webp"]


def load_classifier() -> "Classifier":
    """Here, and not at the top, because this is the only place that needs torch."""
    from medisync import inference

    return data.classifier(run, inference.load)


def predict(content: bytes) -> Prediction | str:
    """The prediction, or the sentence that says why there is none."""
    from medisync import inference

    try:
        return inference.predict(load_classifier(), content)
    except ImageError as problem:
        return str(problem)


def show(name: str, content: bytes, result: Prediction | str, key: str) -> None:
    with st.container(border=True):
        if isinstance(result, str):
            st.text(words.plain(name, 80))
            st.error(words.sentence(result), icon=":material/broken_image:")
            return
        picture, answer = st.columns([1, 2], gap="large")
        with picture:
            st.image(images.decode(content).pixels, width="stretch", alt="The uploaded scan, in grey")
            st.text(words.plain(name, 80))
        with answer:
            show_prediction(result, key)


def show_prediction(result: Prediction, key: str) -> None:
    with st.container(horizontal=True):
        st.metric("Predicted class", words.CLASS_NAMES[result.label])
        st.metric("Calibrated confidence", words.percent(result.confidence))
    if result.unlike_training:
        st.warning("**Unlike the training scans.** Do not rely on this prediction.", icon=":material/warning:")
    st.markdown(f"**{words.plausible(result.plausible)}**", help=PLAUSIBLE)
    parts.chart(charts.probabilities(result), key=key)
    for note in result.notes:
        st.info(words.sentence(note), icon=":material/info:")
    with st.expander(tables.checks_summary(result), expanded=tables.failed_checks(result) > 0):
        st.table(tables.checks(result), border="horizontal", hide_index=True)
    st.caption("Research use only, not a diagnosis.")


run = parts.require_run()
st.title("Prediction")
st.markdown("Upload brain MRI slices; the global model of the chosen run says which class each one shows.")
st.info(
    "**Research use only, not a diagnosis.** Never base a decision about a patient on it.", icon=":material/gpp_maybe:"
)
uploads = st.file_uploader("MRI slices (PNG, JPEG, TIFF or WebP)", ACCEPTED, accept_multiple_files=True)
if not uploads:
    st.caption("Nothing uploaded yet. Images stay in memory for this session and are never written to disk.")
    st.stop()

try:
    load_classifier()
except ModelError as problem:
    st.error(f"The model of this run cannot be used: {words.sentence(str(problem))}", icon=":material/error:")
    st.stop()
with st.spinner("Reading the scans…"):
    results = [(upload.name, predict(upload.getvalue())) for upload in uploads]
if len(uploads) > 1:
    st.dataframe(tables.predictions(results), hide_index=True, alt="One row per uploaded file")
for upload, (name, result) in zip(uploads, results, strict=True):
    show(name, upload.getvalue(), result, key=upload.file_id)
