"""What the run's model says about uploaded scans. They stay in this session's memory and are named in no log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from medisync import artifacts, images
from medisync.dashboard import charts, data, tables, uploads, words
from medisync.dashboard.pages import parts
from medisync.dashboard.uploads import Scan
from medisync.errors import ImageError, ModelError
from medisync.records import Prediction

if TYPE_CHECKING:
    from medisync.inference import Classifier

PLAUSIBLE = "The 90 % prediction set: for scans like the training scans, nine of ten such sets hold the true class."
HEAT_HELP = "Layer-CAM, from the gradient of the predicted class. Checked on phantoms, whose lesions are known."
HEAT_KEY = "heat-maps"
SHOWN_AT_ONCE = 4


def load_classifier() -> "Classifier":
    """Here, and not at the top, because this is the only place that needs torch."""
    from medisync import inference

    return data.classifier(run, inference.load)


def predict(scan: Scan, slice_number: int | None = None) -> Prediction | str:
    """The prediction, or the sentence that says why there is none."""
    from medisync import inference

    try:
        return scan.problem or inference.predict(load_classifier(), scan.content, slice_number)
    except ImageError as problem:
        return str(problem)


def choose_scans() -> list[Scan]:
    """The uploaded images, or the sample that was asked for."""
    found = st.file_uploader(
        "MRI slices (PNG, JPEG, TIFF, WebP, DICOM, NIfTI), or a ZIP of them",
        [*uploads.ACCEPTED, "zip"],
        accept_multiple_files=True,
    )
    if found:
        return [scan for file in found for scan in uploads.expand(file.name, file.file_id, file.getvalue())]
    sample = st.pills("Or try a sample, drawn by a computer", list(data.samples()), format_func=words.plain)
    return [Scan(f"sample: {sample}", f"sample-{sample}", data.samples()[sample])] if sample else []


def show(scan: Scan, result: Prediction | str) -> None:
    with st.container(border=True):
        if isinstance(result, str):
            st.text(words.plain(scan.name, 80))
            st.error(words.sentence(result), icon=":material/broken_image:")
            return
        number = choose_slice(scan, result.slices)
        chosen = predict(scan, number) if number else result
        if isinstance(chosen, str):
            st.error(words.sentence(chosen), icon=":material/broken_image:")
            return
        picture, answer = st.columns([1, 2], gap="large")
        with picture:
            show_picture(scan, number, chosen)
        with answer:
            show_prediction(chosen, scan.key)
            offer_report(scan, number, chosen)


def choose_slice(scan: Scan, count: int) -> int | None:
    """The slice of a volume, from 1; None for the one that is predicted unasked: the middle one, or the only one."""
    middle = count // 2 + 1
    chosen = st.slider("Slice", 1, count, middle, key=f"slice-{scan.key}") if count > 1 else middle
    return None if chosen == middle else chosen


@st.fragment
def show_picture(scan: Scan, number: int | None, result: Prediction) -> None:
    """The scan as the network gets it, and where it looked; the slider redraws only this."""
    place = st.empty()
    label = words.CLASS_NAMES[result.label]
    opacity = st.slider("Heat map", 0, 100, 50, format="%d %%", key=f"opacity-{scan.key}", help=HEAT_HELP) / 100
    drawn = charts.overlay(*looked_at(scan, number, result), opacity)
    place.image(drawn, width="stretch", alt=f"The scan; the warmer, the more it spoke for {label}")
    st.caption(f"The warmer, the more a place spoke for *{label}*. An aid to doubt by, not evidence.")
    st.text(words.plain(scan.name, 80))


def looked_at(scan: Scan, number: int | None, result: Prediction) -> tuple[images.Pixels, Any]:
    """The standardised scan and its heat map, kept in this session while the scan is there."""
    from medisync import explanation

    kept, key = st.session_state.setdefault(HEAT_KEY, {}), (scan.key, run.name, number)
    if key not in kept:
        pixels = images.standardise(images.decode(scan.content, number).pixels, data.meta(run).image_size)
        kept[key] = pixels, explanation.explain(load_classifier(), pixels, result.label)
    found: tuple[images.Pixels, Any] = kept[key]
    return found


def forget_all_but(scans: Sequence[Scan]) -> None:
    """Heat maps of scans that were taken away go with them."""
    kept, present = st.session_state.setdefault(HEAT_KEY, {}), {scan.key for scan in scans}
    for key in [key for key in kept if key[0] not in present]:
        del kept[key]


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


def offer_report(scan: Scan, number: int | None, result: Prediction) -> None:
    """The PDF is written when it is asked for."""

    def written() -> bytes:
        from medisync.dashboard import report  # its PDF library takes long to import

        return report.write(*looked_at(scan, number, result), result, data.meta(run), artifacts.now())

    st.download_button(
        "Report as PDF",
        written,
        "prediction.pdf",
        "application/pdf",
        key=f"report-{scan.key}",
        on_click="ignore",
        icon=":material/picture_as_pdf:",
    )


def show_overview(scans: Sequence[Scan], results: Sequence[Prediction | str]) -> None:
    """All of them in one table, to look at and to take away."""
    rows = [(scan.name, result) for scan, result in zip(scans, results, strict=True)]
    overview = tables.predictions(rows)
    thumbnails = [charts.thumbnail(scan.content) for scan in scans]
    shown = overview.assign(Scan=thumbnails)[["Scan", *overview.columns]]
    st.dataframe(
        shown,
        hide_index=True,
        alt="One row per scan",
        column_config={"Scan": st.column_config.ImageColumn("Scan", width="small")},
    )
    st.download_button(
        "Download as CSV", overview.to_csv(index=False), "predictions.csv", "text/csv", icon=":material/download:"
    )


run = parts.require_run()
st.title("Prediction")
st.markdown("Upload brain MRI slices; the global model of the chosen run says which class each one shows.")
st.info(
    "**Research use only, not a diagnosis.** Never base a decision about a patient on it.", icon=":material/gpp_maybe:"
)
scans = choose_scans()
forget_all_but(scans)
if not scans:
    st.caption("Nothing uploaded yet. Images stay in memory for this session and are never written to disk.")
    st.stop()

try:
    load_classifier()
except ModelError as problem:
    st.error(f"The model of this run cannot be used: {words.sentence(str(problem))}", icon=":material/error:")
    st.stop()
with st.spinner("Reading the scans…"):
    results = [predict(scan) for scan in scans]
if len(scans) > 1:
    show_overview(scans, results)
places = list(range(len(scans)))
if len(scans) > SHOWN_AT_ONCE:
    places = [st.selectbox("Show", places, format_func=lambda place: words.plain(scans[place].name, 80))]
for place in places:
    show(scans[place], results[place])
