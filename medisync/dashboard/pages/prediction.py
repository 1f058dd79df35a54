"""Prediction: the global model's answer for uploaded scans. They stay in this session's memory and are named in no log."""

from collections.abc import Sequence

import streamlit as st

from medisync.dashboard import components, data, predictions, uploads
from medisync.dashboard.predictions import PredictedScan
from medisync.dashboard.uploads import Upload
from medisync.errors import ModelError
from medisync.reporting import formatting, pictures, prediction_tables
from medisync.reporting.charts import performance
from medisync.schemas import Prediction
from medisync.workspace import artifacts
from medisync.workspace.artifacts import RunListing

SET_HELP = "The 90 % prediction set. For scans like the training scans, 90 % of such sets contain the true class."
HEAT_HELP = "Layer-CAM, from the gradient of the predicted class. Checked on phantoms whose lesions are known."
ORIGIN_HELP = (
    "In this model each hospital normalises scans by its own running statistics. Scans from elsewhere are normalised by "
    "the mean of the hospitals' statistics."
)
SAMPLE_HELP = "These are not scans of patients. A model that was trained on real scans may misclassify them."
SHOWN_AT_ONCE = 4


def choose_scans() -> list[Upload]:
    """Returns the uploaded images, or the chosen sample."""
    found = st.file_uploader(
        "MRI slices (PNG, JPEG, TIFF, WebP, DICOM, NIfTI), or a ZIP archive of them",
        [*uploads.ACCEPTED, "zip"],
        accept_multiple_files=True,
    )
    if found:
        return [scan for file in found for scan in uploads.expand(file.name, file.file_id, file.getvalue())]
    samples = list(data.samples())
    sample = st.pills("Or try a computer-drawn sample", samples, format_func=formatting.plain, help=SAMPLE_HELP)
    return [Upload(f"sample: {sample}", f"sample-{sample}", (data.samples()[sample],))] if sample else []


def choose_origin(run: RunListing) -> str:
    """Returns the hospital where the scans were made, if the model distinguishes hospitals; empty for any other."""
    own = data.meta(run).statistics_of
    if not own:
        return ""
    return st.selectbox(
        "Scanned at", ["", *own], format_func=lambda name: name or "another hospital", help=ORIGIN_HELP, width=320
    )


def choose_slice(scan: Upload, count: int) -> int | None:
    """Returns the chosen slice of a volume, from 1; None for the default, the middle one."""
    middle = count // 2 + 1
    chosen = st.slider("Slice", 1, count, middle, key=f"slice-{scan.key}") if count > 1 else middle
    return None if chosen == middle else chosen


def show(run: RunListing, scan: Upload, found: PredictedScan | str) -> None:
    """Draws one upload: its prediction, or the reason why there is none."""
    with st.container(border=True):
        if isinstance(found, PredictedScan) and (number := choose_slice(scan, found.prediction.slices)):
            found = predictions.predict(run, scan, found.hospital, number)
        if isinstance(found, str):
            st.text(formatting.plain(scan.name, 80))
            st.error(formatting.sentence(found), icon=":material/broken_image:")
            return
        picture, answer = st.columns([2, 3], gap="large")
        with picture:
            show_picture(run, found)
            offer_report(run, found)
        with answer:
            show_prediction(found.prediction, scan.key)
            show_local_predictions(run, found)
            st.caption(formatting.RESEARCH_ONLY)


@st.fragment
def show_picture(run: RunListing, found: PredictedScan) -> None:
    """Draws the scan under its heat map; the slider redraws only this."""
    slot = st.empty()
    label = formatting.CLASS_NAMES[found.prediction.label].lower()
    opacity = st.slider("Heat map", 0, 100, 50, format="%d %%", key=f"opacity-{found.scan.key}", help=HEAT_HELP) / 100
    drawn = pictures.overlay(found.pixels, predictions.heat(run, found), opacity)
    slot.image(drawn, width="stretch", alt=f"The scan with its heat map: warmer regions contributed more to {label}")
    st.caption(f"Warmer regions contributed more to *{label}*. Use it to question the prediction; it is not evidence.")
    st.text(formatting.plain(found.scan.name, 80))


def show_prediction(result: Prediction, key: str) -> None:
    with st.container(horizontal=True):
        st.metric("Predicted class", formatting.CLASS_NAMES[result.label])
        st.metric("Calibrated confidence", formatting.percent(result.confidence))
    if result.unlike_training:
        st.warning(f"**Do not rely on this prediction.** {formatting.OUT_OF_DISTRIBUTION}", icon=":material/warning:")
    st.markdown(f"**Plausible classes:** {formatting.prediction_set(result.plausible)}", help=SET_HELP)
    components.chart(performance.probabilities(result), key=key)
    for note in result.notes:
        st.info(formatting.sentence(note), icon=":material/info:")
    needs_review = prediction_tables.failed_checks(result) > 0
    with st.expander(prediction_tables.checks_summary(result), expanded=needs_review):
        components.table(prediction_tables.image_checks(result), "Checks of the image")


def show_local_predictions(run: RunListing, found: PredictedScan) -> None:
    """Draws the predictions of the hospitals' local models."""
    try:
        local = predictions.local_predictions(run, found)
    except ModelError as problem:
        st.caption(f"The local models cannot be used: {formatting.sentence(str(problem))}")
        return
    if not local:
        st.caption("This run did not store local models, so only the global model is shown.")
        return
    components.heading(prediction_tables.agreement(found.prediction, local))
    components.table(
        prediction_tables.by_model(found.prediction, local), "Predictions of the global and the local models"
    )


def offer_report(run: RunListing, found: PredictedScan) -> None:
    """Draws the button of the PDF report, which is written when it is asked for."""

    def written() -> bytes:
        from medisync.reporting import pdf  # its PDF library takes long to import

        heat, local = predictions.heat(run, found), predictions.local_predictions(run, found)
        return pdf.write(found.pixels, heat, found.prediction, local, data.meta(run), artifacts.now(), found.hospital)

    st.download_button(
        "Report as PDF",
        written,
        "prediction.pdf",
        "application/pdf",
        key=f"report-{found.scan.key}",
        on_click="ignore",
        icon=":material/picture_as_pdf:",
    )


def show_all(found: Sequence[tuple[Upload, PredictedScan | str]]) -> None:
    """Draws all predictions in one table, which can be downloaded."""
    results = [(scan.name, each if isinstance(each, str) else each.prediction) for scan, each in found]
    listed = prediction_tables.predictions(results)
    thumbnails = ["" if isinstance(each, str) else pictures.thumbnail(each.pixels) for _, each in found]
    shown = prediction_tables.with_thumbnails(listed, thumbnails)
    column = st.column_config.ImageColumn("Scan", width="small")
    components.grid(shown, "One row per scan", columns={"Scan": column})
    st.download_button("Predictions as CSV", listed.to_csv(), "predictions.csv", "text/csv", icon=":material/download:")


run = components.require_run()
st.title("Prediction")
st.markdown("Upload brain MRI slices. The global model of the selected run predicts the class of each.")
st.info(f"**{formatting.RESEARCH_ONLY}** Never base a decision about a patient on it.", icon=":material/gpp_maybe:")
scans = choose_scans()
origin = choose_origin(run)
predictions.forget_all_but(scans)
if not scans:
    st.caption("Nothing uploaded yet. Images stay in memory for this session and are never written to disk.")
    st.stop()

try:
    predictions.classifier(run, origin)
except ModelError as problem:
    components.model_error(problem)
    st.stop()
with st.spinner("Reading the scans…"):
    found = [(scan, predictions.predict(run, scan, origin)) for scan in scans]
if len(scans) > 1:
    show_all(found)
indices = list(range(len(scans)))
if len(scans) > SHOWN_AT_ONCE:
    indices = [st.selectbox("Show", indices, format_func=lambda index: formatting.plain(scans[index].name, 80))]
for index in indices:
    show(run, *found[index])
