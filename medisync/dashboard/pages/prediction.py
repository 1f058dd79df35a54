"""Prediction: the global model's answer for uploaded scans. They stay in this session's memory and are named in no log."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from medisync.dashboard import components, data, predictions, session_uploads
from medisync.dashboard.predictions import Answer, PredictedScan
from medisync.dashboard.uploads import Upload
from medisync.errors import ModelError
from medisync.reporting import formatting, pictures, prediction_csv, prediction_tables, verdicts
from medisync.reporting.charts import performance, slices
from medisync.schemas import Prediction, Verdict
from medisync.workspace import artifacts
from medisync.workspace.artifacts import RunListing

SET_HELP = "The 90 % prediction set. For scans like the training scans, 90 % of such sets contain the true class."
HEAT_HELP = "Layer-CAM, from the gradient of the predicted class. Checked on phantoms whose lesions are known."
SAMPLE_HELP = "These are not scans of patients. A model that was trained on real scans may misclassify them."
LOOKS: Mapping[Verdict, tuple[Callable[..., object], str]] = {
    "answer": (st.info, ":material/task_alt:"),
    "doubt": (st.warning, ":material/warning:"),
    "no answer": (st.error, ":material/block:"),
}
"""The box and the icon of a verdict, which says in words what they show."""

SHOWN_AT_ONCE = 4


def choose_scans() -> list[Upload]:
    """Returns the uploaded images, or the chosen sample."""
    if found := session_uploads.choose():
        return found
    samples = list(data.samples())
    sample = st.pills(
        "Or try a computer-drawn sample",
        samples,
        format_func=formatting.plain,
        help=SAMPLE_HELP,
        key="sample",
        persist_state="session",
    )
    return [Upload(f"sample: {sample}", f"sample-{sample}", (data.samples()[sample],))] if sample else []


def choose_origin(run: RunListing) -> str:
    """Returns the hospital where the scans were made, if the model distinguishes it or was adapted to it; else nothing."""
    own = data.origins(run)
    if not own:
        return ""
    return st.selectbox(
        "Scanned at",
        ["", *own],
        format_func=lambda name: name or "another hospital",
        help=verdicts.origin_help(data.meta(run)),
        width=320,
        key=f"origin-{run.name}",
        persist_state="session",
    )


def slice_key(scan: Upload) -> str:
    """Returns the key in the session state of the slice that was chosen of a volume."""
    return f"slice-{scan.key}"


def choose_slice(shown: Answer) -> None:
    """Draws the choice of a volume's slice, which the next run of the page shows."""
    key = slice_key(shown.scan)
    st.session_state.setdefault(key, shown.slice_number)
    st.slider("Slice", 1, shown.slices, key=key, persist_state="session")


def show(run: RunListing, shown: Answer) -> Callable[[], None]:
    """Draws one upload: its prediction, or the reason why there is none. Returns what draws the rest, which takes longer."""
    with st.container(border=True):
        if shown.slices > 1:
            choose_slice(shown)
        found = shown.found
        if isinstance(found, str):
            st.text(formatting.plain(shown.scan.name, 80))
            st.error(formatting.sentence(found), icon=":material/broken_image:")
            return partial(show_slices, st.container(), run, shown)
        show_verdict(run, found)
        picture, answer = st.columns([2, 3], gap="large")
        with picture:
            show_picture(run, found)
            offer_report(run, found)
        with answer:
            show_prediction(run, found)
            st.caption(formatting.RESEARCH_ONLY)
        return partial(show_slices, st.container(), run, shown)


def show_slices(slot: DeltaGenerator, run: RunListing, shown: Answer) -> None:
    """Draws the probabilities along the slices of a volume into `slot`."""
    if shown.slices < 2:
        return
    with slot:
        bar = st.empty()
        found = predictions.along_slices(run, shown, lambda done: bar.progress(done, "Predicting the other slices…"))
        bar.empty()
        components.chart(slices.along_slices(found, shown.slice_number), key=f"along-{shown.scan.key}")
        st.caption(slices.key(found))
        with st.expander("Slices as a table"):
            components.grid(prediction_tables.slices(found), "The probability of each class in each slice")
            rows = [prediction_csv.row(shown.scan.name, each, number, shown.slices) for number, each in found.items()]
            offer_csv("Slices as CSV", rows, "slices.csv", f"slices-as-csv-{shown.scan.key}")


@st.fragment
def show_picture(run: RunListing, found: PredictedScan) -> None:
    """Draws the scan under its heat map; the slider redraws only this."""
    slot = st.empty()
    label = formatting.CLASS_NAMES[found.prediction.label].lower()
    if found.prediction.verdict == "no answer":
        label = "what the network leaned to"
    opacity = st.slider("Heat map", 0, 100, 50, format="%d %%", key=f"opacity-{found.scan.key}", help=HEAT_HELP) / 100
    drawn = pictures.overlay(found.pixels, predictions.heat(run, found), opacity)
    slot.image(drawn, width="stretch", alt=f"The scan with its heat map: warmer regions contributed more to {label}")
    st.caption(f"Warmer regions contributed more to *{label}*. Use it to question the prediction; it is not evidence.")
    st.text(formatting.plain(found.scan.name, 80))


def show_verdict(run: RunListing, found: PredictedScan) -> None:
    """Draws what the prediction is worth, and why; nothing for a run before there were verdicts."""
    result, fitted = found.prediction, data.meta(run).calibration_at(found.hospital)
    if result.verdict is None:
        return
    draw, icon = LOOKS[result.verdict]
    said = [formatting.escape(each, 500) for each in verdicts.reasons(result, fitted, found.hospital)]
    draw("\n\n".join([f"### {formatting.escape(verdicts.headline(result))}", *said]), icon=icon)


def show_prediction(run: RunListing, found: PredictedScan) -> None:
    """Draws the class and its probabilities, out of sight where there is no answer, and how the image was read."""
    if found.prediction.verdict == "no answer":
        show_prior(run, found)
        with st.expander("What the network leaned to"):
            st.markdown(formatting.escape(verdicts.leaning(found.prediction)))
            show_classes(found)
            show_local_predictions(run, found)
        show_reading(run, found.prediction)
        return
    show_class(found.prediction)
    show_prior(run, found)
    show_classes(found)
    show_reading(run, found.prediction)
    show_local_predictions(run, found)


def show_class(result: Prediction) -> None:
    """Draws the predicted class and, in a run before verdicts, a warning about a scan that is out of distribution."""
    with st.container(horizontal=True):
        st.metric("Predicted class", formatting.CLASS_NAMES[result.label])
        st.metric("Calibrated confidence", formatting.percent(result.confidence))
    if result.verdict is None and result.unlike_training:
        st.warning(f"**Do not rely on this prediction.** {formatting.OUT_OF_DISTRIBUTION}", icon=":material/warning:")


def show_prior(run: RunListing, found: PredictedScan) -> None:
    """Draws which prior was used, if the model has priors."""
    if prior := verdicts.prior(data.meta(run), found.hospital):
        st.caption(formatting.escape(prior, 500))


def show_classes(found: PredictedScan) -> None:
    """Draws the classes that cannot be ruled out and the probability of each."""
    st.markdown(f"**Plausible classes:** {formatting.prediction_set(found.prediction.plausible)}", help=SET_HELP)
    components.chart(performance.probabilities(found.prediction), key=found.scan.key)


def show_reading(run: RunListing, result: Prediction) -> None:
    """Draws which run predicted, how the image was read and the checks of it."""
    st.caption(f"Predicted by the global model of {formatting.escape(run.name)}.")
    if result.notes:
        st.info(prediction_tables.notes(result), icon=":material/info:")
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
    if data.meta(run).hospital_priors:
        st.caption("Each local model predicts under its own hospital's prior and with its own thresholds.")


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


def show_all(found: Sequence[Answer]) -> None:
    """Draws all predictions in one table, each for the slice that is shown."""
    listed = prediction_tables.predictions(
        [(each.scan.name, each.result, each.slice_number, each.slices) for each in found]
    )
    thumbnails = ["" if isinstance(each.found, str) else pictures.thumbnail(each.found.pixels) for each in found]
    shown = prediction_tables.with_thumbnails(listed, thumbnails)
    column = st.column_config.ImageColumn("Scan", width="small")
    components.grid(shown, "One row per scan", columns={"Scan": column})


def offer_predictions(found: Sequence[Answer]) -> None:
    rows = [prediction_csv.row(each.scan.name, each.result, each.slice_number, each.slices) for each in found]
    offer_csv("Predictions as CSV", rows, "predictions.csv", "predictions-as-csv")


def offer_csv(label: str, rows: Iterable[Sequence[str]], name: str, key: str) -> None:
    """Draws the button of a table of predictions."""
    stream = io.StringIO()
    prediction_csv.write(stream, rows)
    st.download_button(
        label, stream.getvalue(), name, "text/csv", key=key, on_click="ignore", icon=":material/download:"
    )


run = components.require_run()
st.title("Prediction")
st.markdown(
    f"Upload brain MRI slices. The global model of the selected run, {formatting.escape(run.name)}, predicts the class of each."
)
st.info(f"**{formatting.RESEARCH_ONLY}** Never base a decision about a patient on it.", icon=":material/gpp_maybe:")
scans = choose_scans()
origin = choose_origin(run)
predictions.forget_all_but(scans)
if not scans:
    st.caption("No scans yet. Images stay in memory for this session and are never written to disk.")
    st.stop()

try:
    predictions.classifier(run, origin)
except ModelError as problem:
    components.model_error(problem)
    st.stop()
with st.spinner("Reading the scans…"):
    answers = [predictions.answer(run, scan, origin, st.session_state.get(slice_key(scan))) for scan in scans]
if len(answers) > 1:
    show_all(answers)
    offer_predictions(answers)
shown = answers
if len(answers) > SHOWN_AT_ONCE:
    indices = list(range(len(answers)))
    shown = [answers[st.selectbox("Show", indices, format_func=lambda index: formatting.plain(scans[index].name, 80))]]
for finish in [show(run, each) for each in shown]:
    finish()
if len(answers) == 1:
    offer_predictions(answers)
