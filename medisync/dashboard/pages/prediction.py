"""What the run's model says about uploaded scans. They stay in this session's memory and are named in no log."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from medisync import images
from medisync.dashboard import charts, data, tables, words
from medisync.dashboard.pages import parts
from medisync.errors import ImageError, ModelError
from medisync.records import Prediction

if TYPE_CHECKING:
    from medisync.inference import Classifier

PLAUSIBLE = "The 90 % prediction set: for scans like the training scans, nine of ten such sets hold the true class."
HEAT_HELP = "Layer-CAM, from the gradient of the predicted class. Checked on phantoms, whose lesions are known."
HEAT_KEY = "heat-maps"
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
            show_picture(content, result, key)
            st.text(words.plain(name, 80))
        with answer:
            show_prediction(result, key)


@st.fragment
def show_picture(content: bytes, result: Prediction, key: str) -> None:
    """The scan as the network gets it, and where it looked; the slider redraws only this."""
    place = st.empty()
    label = words.CLASS_NAMES[result.label]
    opacity = st.slider("Heat map", 0, 100, 50, format="%d %%", key=f"opacity-{key}", help=HEAT_HELP) / 100
    pixels, heat = looked_at(content, result, key)
    drawn = charts.overlay(pixels, heat, opacity)
    place.image(drawn, width="stretch", alt=f"The uploaded scan; the warmer, the more it spoke for {label}")
    st.caption(f"The warmer, the more a place spoke for *{label}*. An aid to doubt by, not evidence.")


def looked_at(content: bytes, result: Prediction, key: str) -> tuple[images.Pixels, Any]:
    """The standardised scan and its heat map, kept in this session while the scan is uploaded."""
    from medisync import explanation

    kept = st.session_state.setdefault(HEAT_KEY, {})
    if key not in kept:
        pixels = images.standardise(images.decode(content).pixels, data.meta(run).image_size)
        kept[key] = pixels, explanation.explain(load_classifier(), pixels, result.label)
    found: tuple[images.Pixels, Any] = kept[key]
    return found


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
keys = [f"{run.name}-{upload.file_id}" for upload in uploads]
kept = st.session_state.setdefault(HEAT_KEY, {})
for removed in kept.keys() - set(keys):
    del kept[removed]
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
    overview = tables.predictions(results)
    st.dataframe(overview, hide_index=True, alt="One row per uploaded file")
    st.download_button(
        "Download as CSV", overview.to_csv(index=False), "predictions.csv", "text/csv", icon=":material/download:"
    )
for key, upload, (name, result) in zip(keys, uploads, results, strict=True):
    show(name, upload.getvalue(), result, key)
