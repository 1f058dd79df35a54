"""What the run's model says about uploaded scans. They stay in this session's memory and are named in no log."""

from collections.abc import Sequence

import streamlit as st

from medisync.dashboard import components, data, predictions, uploads
from medisync.dashboard.predictions import Answer
from medisync.dashboard.uploads import Scan
from medisync.errors import ModelError
from medisync.reporting import formatting, pictures
from medisync.reporting.charts import performance
from medisync.reporting.tables import metric_tables
from medisync.schemas import Prediction
from medisync.workspace import artifacts

PLAUSIBLE = "The 90 % prediction set: for scans like the training scans, nine of ten such sets hold the true class."
HEAT_HELP = "Layer-CAM, from the gradient of the predicted class. Checked on phantoms, whose lesions are known."
ORIGIN_HELP = "Each hospital of the federation normalises scans by its own statistics; scans from elsewhere by the mean of theirs."
SAMPLE_HELP = "No patient's scans: a model that was trained on real ones may well get them wrong."
SHOWN_AT_ONCE = 4


def choose_scans() -> list[Scan]:
    """The uploaded images, or the sample that was asked for."""
    found = st.file_uploader(
        "MRI slices (PNG, JPEG, TIFF, WebP, DICOM, NIfTI), or a ZIP of them",
        [*uploads.ACCEPTED, "zip"],
        accept_multiple_files=True,
    )
    if found:
        return [scan for file in found for scan in uploads.expand(file.name, file.file_id, file.getvalue())]
    samples = list(data.samples())
    sample = st.pills("Or try a sample, drawn by a computer", samples, format_func=formatting.plain, help=SAMPLE_HELP)
    return [Scan(f"sample: {sample}", f"sample-{sample}", data.samples()[sample])] if sample else []


def show(scan: Scan, found: Answer | str) -> None:
    with st.container(border=True):
        if not isinstance(found, str):
            number = choose_slice(scan, found.prediction.slices)
            found = predictions.answer(run, scan, origin, number) if number else found
        if isinstance(found, str):
            st.text(formatting.plain(scan.name, 80))
            st.error(formatting.sentence(found), icon=":material/broken_image:")
            return
        picture, answer = st.columns([2, 3], gap="large")
        with picture:
            show_picture(found)
            offer_report(found)
        with answer:
            show_prediction(found.prediction, scan.key)
            show_opinions(found)
            st.caption("Research use only, not a diagnosis.")


def choose_origin() -> str:
    """The hospital that the scans are from, where that matters to the model; empty for any other."""
    own = data.meta(run).statistics_of
    if not own:
        return ""
    return st.selectbox(
        "Scanned at", ["", *own], format_func=lambda name: name or "another hospital", help=ORIGIN_HELP, width=320
    )


def choose_slice(scan: Scan, count: int) -> int | None:
    """The slice of a volume, from 1; None for the one that is predicted unasked: the middle one, or the only one."""
    middle = count // 2 + 1
    chosen = st.slider("Slice", 1, count, middle, key=f"slice-{scan.key}") if count > 1 else middle
    return None if chosen == middle else chosen


@st.fragment
def show_picture(found: Answer) -> None:
    """The scan as the network gets it, and where it looked; the slider redraws only this."""
    place = st.empty()
    label = formatting.CLASS_NAMES[found.prediction.label]
    key = f"opacity-{found.scan.key}"
    opacity = st.slider("Heat map", 0, 100, 50, format="%d %%", key=key, help=HEAT_HELP) / 100
    drawn = pictures.overlay(found.pixels, predictions.heat(run, found), opacity)
    place.image(drawn, width="stretch", alt=f"The scan; the warmer, the more it spoke for {label}")
    st.caption(f"The warmer, the more a place spoke for *{label}*. An aid to doubt by, not evidence.")
    st.text(formatting.plain(found.scan.name, 80))


def show_prediction(result: Prediction, key: str) -> None:
    with st.container(horizontal=True):
        st.metric("Predicted class", formatting.CLASS_NAMES[result.label])
        st.metric("Calibrated confidence", formatting.percent(result.confidence))
    if result.unlike_training:
        st.warning("**Unlike the training scans.** Do not rely on this prediction.", icon=":material/warning:")
    st.markdown(f"**{formatting.plausible(result.plausible)}**", help=PLAUSIBLE)
    components.chart(performance.probabilities(result), key=key)
    for note in result.notes:
        st.info(formatting.sentence(note), icon=":material/info:")
    with st.expander(metric_tables.checks_summary(result), expanded=metric_tables.failed_checks(result) > 0):
        components.table(metric_tables.checks(result), "Checks of the image")


def show_opinions(found: Answer) -> None:
    """What each hospital would have said without the federation."""
    try:
        others = predictions.opinions(run, found)
    except ModelError as problem:
        st.caption(f"Hospitals' own models cannot be asked: {formatting.sentence(str(problem))}")
        return
    if not others:
        st.caption("This run has no hospitals' own models beside it, so only the global one is asked.")
        return
    st.markdown(f"##### {metric_tables.agreement(found.prediction, others)}")
    components.table(metric_tables.opinions(found.prediction, others), "What each hospital's own model says")


def offer_report(found: Answer) -> None:
    """The PDF is written when it is asked for."""

    def written() -> bytes:
        from medisync.reporting import pdf  # its PDF library takes long to import

        heat, others = predictions.heat(run, found), predictions.opinions(run, found)
        return pdf.write(found.pixels, heat, found.prediction, others, data.meta(run), artifacts.now(), found.hospital)

    st.download_button(
        "Report as PDF",
        written,
        "prediction.pdf",
        "application/pdf",
        key=f"report-{found.scan.key}",
        on_click="ignore",
        icon=":material/picture_as_pdf:",
    )


def show_overview(scans: Sequence[Scan], answers: Sequence[Answer | str]) -> None:
    """All of them in one table, to look at and to take away."""
    results = [found if isinstance(found, str) else found.prediction for found in answers]
    overview = metric_tables.predictions([(scan.name, result) for scan, result in zip(scans, results, strict=True)])
    thumbnails = ["" if isinstance(found, str) else pictures.thumbnail(found.pixels) for found in answers]
    shown = overview.assign(Scan=thumbnails)[["Scan", *overview.columns]]
    st.dataframe(
        shown,
        hide_index=True,
        alt="One row per scan",
        column_config={"Scan": st.column_config.ImageColumn("Scan", width="small")},
    )
    st.download_button(
        "Predictions as CSV", overview.to_csv(index=False), "predictions.csv", "text/csv", icon=":material/download:"
    )


run = components.require_run()
st.title("Prediction")
st.markdown("Upload brain MRI slices; the global model of the chosen run says which class each one shows.")
st.info(
    "**Research use only, not a diagnosis.** Never base a decision about a patient on it.", icon=":material/gpp_maybe:"
)
scans = choose_scans()
origin = choose_origin()
predictions.forget_all_but(scans)
if not scans:
    st.caption("Nothing uploaded yet. Images stay in memory for this session and are never written to disk.")
    st.stop()

try:
    predictions.classifier(run, origin)
except ModelError as problem:
    st.error(f"The model of this run cannot be used: {formatting.sentence(str(problem))}", icon=":material/error:")
    st.stop()
with st.spinner("Reading the scans…"):
    answers = [predictions.answer(run, scan, origin) for scan in scans]
if len(scans) > 1:
    show_overview(scans, answers)
places = list(range(len(scans)))
if len(scans) > SHOWN_AT_ONCE:
    places = [st.selectbox("Show", places, format_func=lambda place: formatting.plain(scans[place].name, 80))]
for place in places:
    show(scans[place], answers[place])
