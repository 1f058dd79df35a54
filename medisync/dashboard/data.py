"""The runs of the workspace and their records, as pages fetch them. The only user of Streamlit's caches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import streamlit as st
import streamlit.components.v1 as components
from numpy.typing import NDArray

from medisync.errors import ArtifactError, ImageError
from medisync.imaging.decoding import decode, file_bytes
from medisync.imaging.preprocessing import pad_to_square
from medisync.schemas import (
    LABELS,
    AuditRecord,
    BaselineRecord,
    ExternalEvaluation,
    HistoryEntry,
    Label,
    MembershipRecord,
    ModelMeta,
    Prediction,
    Progress,
    RunRecord,
    SplitImage,
    SplitRecord,
    StoredModel,
)
from medisync.workspace import adaptations, artifacts
from medisync.workspace.artifacts import RunListing

Classifier = TypeVar("Classifier")

SAMPLES = Path(__file__).parent / "samples"

CHUNK = 32
"""Scans predicted between two progress reports; few enough to be decoded in this process."""

SILENCE = 60.0
"""Seconds without progress after which a run no longer counts as running."""

RUN_KEY = "run"
"""The run picker's key in the session state; its value is a name of `readable`."""

_SHOWN_KEY = "shown-run"
"""The key in the session state of the run that the session was shown last."""

HOSPITAL_KEY = "hospital"
"""The key in the session state of the hospital that the hospitals page shows."""


@dataclass(frozen=True)
class Mistake:
    """A test scan that the global model misclassified."""

    hospital: str
    path: str
    label: Label
    prediction: Prediction


# Streamlit serves a component's folder from its own server, so the map's Leaflet needs neither another host nor a
# `static/` folder beside app.py.
_LEAFLET = components.declare_component("leaflet", path=str(Path(__file__).parent / "static"))


def leaflet_address() -> str:
    """Returns the address of Leaflet, relative to the map's own frame, which is a component too."""
    return f"../{_LEAFLET.name}/"


def list_runs() -> list[RunListing]:
    """Returns every run of the workspace, newest first; a run whose metadata does not parse counts as unreadable."""
    return [listing for listing in _list_runs(artifacts.locate()) if listing.folder.is_dir()]


@st.cache_data(ttl=5, show_spinner=False)
def _list_runs(workspace: artifacts.Workspace) -> list[RunListing]:
    """Returns what `list_runs` promises. It reads and hashes every artifact, so not on each click."""
    return [_checked(listing) for listing in artifacts.list_runs(workspace)]


def _checked(listing: RunListing) -> RunListing:
    if listing.record is None:
        return listing
    try:
        artifacts.read(listing.folder, artifacts.META)
    except ArtifactError as error:
        return replace(listing, record=None, problem=str(error))
    return listing


def readable() -> dict[str, RunListing]:
    """Returns the runs that pages can show, by name, newest first."""
    return {listing.name: listing for listing in list_runs() if listing.record}


def selected() -> RunListing | None:
    """Returns the run that the picker shows; None if there is nothing to pick, or the run that was shown is gone."""
    runs = readable()
    chosen = runs.get(st.session_state.get(RUN_KEY) or "")
    return chosen or (None if lost() else next(iter(runs.values()), None))


def lost() -> str:
    """Returns the name of the run that this session was shown last, if it can no longer be shown and none was chosen since.

    Another run must not take its place unasked: its figures and predictions would be taken for those of the first.
    """
    runs = readable()
    shown: str = st.session_state.get(_SHOWN_KEY, "")
    return shown if shown and shown not in runs and st.session_state.get(RUN_KEY) not in runs else ""


def remember_shown() -> None:
    """Remembers for this session which run it is shown."""
    if run := selected():
        st.session_state[_SHOWN_KEY] = run.name


def record(run: RunListing) -> RunRecord:
    if run.record is None:
        raise ArtifactError(run.problem)
    return run.record


def meta(run: RunListing) -> ModelMeta:
    return artifacts.named_by_folder(run.folder, _fetch(run, artifacts.META))


def audit(run: RunListing) -> AuditRecord:
    return _fetch(run, artifacts.AUDIT)


def history(run: RunListing) -> list[HistoryEntry]:
    return _fetch(run, artifacts.HISTORY)


def baselines(run: RunListing) -> BaselineRecord | None:
    """Returns the comparison with other models; None for a run without one."""
    return _fetch(run, artifacts.BASELINES) if artifacts.BASELINES in record(run).files else None


def external(run: RunListing) -> dict[str, ExternalEvaluation]:
    """Returns the evaluation of each external dataset, by its name; empty for a run without any."""
    return _fetch(run, artifacts.EXTERNAL) if artifacts.EXTERNAL in record(run).files else {}


def membership(run: RunListing) -> MembershipRecord | None:
    """Returns the attacks on the run's model; None for a run that recorded none."""
    return _fetch(run, artifacts.MEMBERSHIP) if artifacts.MEMBERSHIP in record(run).files else None


def progress(run: RunListing) -> Progress | None:
    """Returns the progress of an unfinished run, read afresh each time."""
    try:
        return artifacts.read(run.folder, artifacts.PROGRESS)
    except ArtifactError:
        return None  # not written yet


@st.cache_resource(show_spinner=False)
def samples() -> dict[str, bytes]:
    """Returns the sample slices that come with the program, drawn by a computer, by the class that they show."""
    files = sorted(SAMPLES.glob("*.png"))
    return {file.stem.replace("-", " ").capitalize(): file.read_bytes() for file in files}


def log(run: RunListing) -> str:
    """Returns the text of a run's log; empty if the log is not in this workspace."""
    return artifacts.read_log(artifacts.locate(), record(run).log)


def sample_scans(run: RunListing, hospital: str) -> list[tuple[Label, NDArray[np.uint8]]]:
    """Returns one test scan of each class that the hospital has, as found by the audit; none without the dataset."""
    if artifacts.SPLITS not in record(run).files:
        return []
    split: SplitRecord = _fetch(run, artifacts.SPLITS)
    members = split.hospitals[hospital].test if hospital in split.hospitals else []
    first = {image.label: image for image in reversed(members)}
    return [
        (label, pixels) for label in LABELS if label in first and (pixels := picture(first[label].path)) is not None
    ]


def picture(path: str, *, mirrored: bool = False) -> NDArray[np.uint8] | None:
    """Returns a scan of the dataset, padded to a black square; None if it is not on this machine."""
    if ".." in PurePosixPath(path).parts:
        return None
    try:
        pixels = decode(file_bytes(artifacts.locate().dataset / path)).pixels
    except ImageError:
        return None
    return pad_to_square(pixels[:, ::-1] if mirrored else pixels)


def has_dataset(run: RunListing) -> bool:
    """Returns whether the run's first test scan, and so presumably all of them, is on this machine."""
    first = next(_test_scans(run), None)
    return first is not None and (artifacts.locate().dataset / first[1].path).is_file()


def _test_scans(run: RunListing) -> Iterator[tuple[str, SplitImage]]:
    if artifacts.SPLITS in record(run).files:
        split: SplitRecord = _fetch(run, artifacts.SPLITS)
        yield from ((name, scan) for name, hospital in split.hospitals.items() for scan in hospital.test)


Predict = Callable[[str, Sequence[Path]], Iterator[Prediction | None]]
"""(hospital, files) -> one prediction per file, None for a file that cannot be read."""


def find_mistakes(run: RunListing, predict: Predict, report: Callable[[float], object]) -> list[Mistake]:
    """Returns the test scans that `predict` misclassifies, most confident first; computed once per process and model."""
    known = _mistakes_by_model()
    key = meta(run).model_sha256
    if key not in known:
        known[key] = _find_mistakes(list(_test_scans(run)), predict, report)
    return known[key]


def known_mistakes(run: RunListing) -> list[Mistake] | None:
    """Returns what `find_mistakes` found before, or None."""
    return _mistakes_by_model().get(meta(run).model_sha256)


@st.cache_resource(show_spinner=False)
def _mistakes_by_model() -> dict[str, list[Mistake]]:
    """Returns the mistakes found so far, by the SHA-256 of the model."""
    return {}


def _find_mistakes(
    scans: Sequence[tuple[str, SplitImage]], predict: Predict, report: Callable[[float], object]
) -> list[Mistake]:
    found, dataset = [], artifacts.locate().dataset
    for start, hospital, chunk in _chunks(scans):
        report(start / len(scans))
        for scan, prediction in zip(chunk, predict(hospital, [dataset / s.path for s in chunk]), strict=True):
            if prediction and prediction.label != scan.label:
                found.append(Mistake(hospital, scan.path, scan.label, prediction))
    return sorted(found, key=lambda mistake: -mistake.prediction.confidence)


def _chunks(scans: Sequence[tuple[str, SplitImage]]) -> Iterator[tuple[int, str, list[SplitImage]]]:
    """Yields (number of scans before, hospital, at most CHUNK scans of that hospital)."""
    start = 0
    while start < len(scans):
        hospital = scans[start][0]
        chunk = [scan for name, scan in scans[start : start + CHUNK] if name == hospital]
        yield start, hospital, chunk
        start += len(chunk)


def running() -> list[tuple[str, Progress, list[HistoryEntry]]]:
    """Returns (name, progress, rounds so far) of each run that reported progress within the last minute."""
    found = []
    for listing in list_runs():
        current = progress(listing) if listing.record is None else None
        if current and artifacts.age(current.updated_at) < SILENCE:
            found.append((listing.name, current, _history_so_far(listing)))
    return found


def _history_so_far(run: RunListing) -> list[HistoryEntry]:
    try:
        return artifacts.read(run.folder, artifacts.HISTORY)
    except ArtifactError:
        return []  # no round is complete yet


def _fetch(run: RunListing, name: str) -> Any:
    hashes: Mapping[str, str] = run.record.files if run.record else {}
    return _read(run.folder, name, hashes.get(name, ""))


@st.cache_resource(max_entries=16, show_spinner="Reading the run…")
def _read(folder: Path, name: str, sha256: str) -> Any:  # noqa: ARG001
    """Returns a record that all sessions share: records are immutable, and the hash in the key identifies a file's version."""
    return artifacts.read(folder, name)


Load = Callable[[Path, Path, StoredModel, str], Classifier]
"""Passed in by the caller, so that this module does not import torch."""


def classifier(run: RunListing, load: Load[Classifier], hospital: str = "") -> Classifier:
    """Returns the run's model for scans of that hospital, loaded once per process."""
    folder, adaptation = _adapted(run).get(hospital, (run.folder, ""))
    weights, distribution = folder / artifacts.MODEL, folder / artifacts.DISTRIBUTION
    version = meta(run).model_sha256 + adaptation
    found: Classifier = _load_classifier(weights, version, hospital, distribution, meta(run), load)
    return found


def origins(run: RunListing) -> list[str]:
    """Returns the hospitals whose scans the run's model predicts in a way of their own: its own ones, and adapted ones."""
    return [*meta(run).distinguishes, *_adapted(run)]


def _adapted(run: RunListing) -> dict[str, tuple[Path, str]]:
    """Returns for each hospital with an adaptation the folder that holds it, beside the same weights, and its SHA-256.

    `medisync adapt` writes beside the model that it used, which may be the published copy of the run's.
    """
    return {
        record.name: (folder, record.sha256)
        for folder in (artifacts.locate().models, run.folder)
        for record in adaptations.usable(folder, meta(run).model_sha256)
        if record.name not in meta(run).distinguishes
    }


def local_classifiers(run: RunListing, load: Load[Classifier]) -> dict[str, Classifier]:
    """Returns the local models that the run stored and that are still there, by hospital."""
    compared = baselines(run)
    found = {}
    for index, each in enumerate(compared.models if compared else []):
        weights, distribution = (run.folder / name for name in artifacts.local_files(index))
        if each.kind == "local" and each.stored and weights.is_file() and distribution.is_file():
            (name,), sha256 = each.trained_at, each.stored.model_sha256
            own = name if name in each.stored.distinguishes else ""
            found[name] = _load_classifier(weights, sha256, own, distribution, each.stored, load)
    return found


@st.cache_resource(max_entries=8, show_spinner="Loading the model…")
def _load_classifier(
    weights: Path,
    sha256: str,  # noqa: ARG001
    hospital: str,
    _distribution: Path,
    _stored: StoredModel,
    _load: Load[Any],
) -> Any:
    """Returns a model that all sessions share; the hash in the key identifies the version of its weights."""
    return _load(weights, _distribution, _stored, hospital)
