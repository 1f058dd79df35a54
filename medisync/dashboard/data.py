"""What pages fetch: the runs of the workspace and their records. The only user of Streamlit's caches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import streamlit as st
import streamlit.components.v1 as components
from numpy.typing import NDArray

from medisync.data.decoding import decode, file_bytes
from medisync.data.preprocessing import pad_to_square
from medisync.errors import ArtifactError, ImageError
from medisync.schemas import (
    LABELS,
    AuditRecord,
    BaselineRecord,
    HistoryEntry,
    Label,
    ModelMeta,
    Prediction,
    Progress,
    RunRecord,
    SplitImage,
    SplitRecord,
    StoredModel,
)
from medisync.workspace import artifacts
from medisync.workspace.artifacts import RunListing

Classifier = TypeVar("Classifier")

SAMPLES = Path(__file__).parent / "samples"

CHUNK = 32
"""Scans predicted between two reports of how far it is; small enough to be decoded in this process."""

STILL = 60.0
"""Seconds without a sign after which a run is not called running."""

RUN_KEY = "run"
"""The run picker's key in the session: a name of `readable`."""

HOSPITAL_KEY = "hospital"
"""The key of the hospital that its page shows."""


@dataclass(frozen=True)
class Mistake:
    """A test scan that the global model gave a wrong class."""

    hospital: str
    path: str
    label: Label
    prediction: Prediction


# Streamlit serves a component's folder from its own server: so the map's Leaflet needs no other host, and no
# `static/` folder beside app.py.
_LEAFLET = components.declare_component("leaflet", path=str(Path(__file__).parent / "static"))


def leaflet_address() -> str:
    """Where the browser finds Leaflet, seen from the map's own frame, which is a component too."""
    return f"../{_LEAFLET.name}/"


def list_runs() -> list[RunListing]:
    """Every run of the workspace, newest first; one whose metadata does not parse counts as unreadable."""
    return _list_runs(artifacts.locate())


@st.cache_data(ttl=5, show_spinner=False)
def _list_runs(workspace: artifacts.Workspace) -> list[RunListing]:
    """Reads and hashes every artifact, so not on each click; a run that has just finished appears seconds later."""
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
    """The runs that pages can show, by name, newest first."""
    return {listing.name: listing for listing in list_runs() if listing.record}


def selected() -> RunListing | None:
    """The run that the picker shows, or None where there is nothing to pick."""
    runs = readable()
    chosen = runs.get(st.session_state.get(RUN_KEY, ""))
    return chosen or next(iter(runs.values()), None)


def record(run: RunListing) -> RunRecord:
    if run.record is None:
        raise ArtifactError(run.problem)
    return run.record


def meta(run: RunListing) -> ModelMeta:
    return _fetch(run, artifacts.META)


def audit(run: RunListing) -> AuditRecord:
    return _fetch(run, artifacts.AUDIT)


def history(run: RunListing) -> list[HistoryEntry]:
    return _fetch(run, artifacts.HISTORY)


def baselines(run: RunListing) -> BaselineRecord | None:
    """None for a run from before there were any."""
    return _fetch(run, artifacts.BASELINES) if artifacts.BASELINES in record(run).files else None


def progress(run: RunListing) -> Progress | None:
    """Where an unfinished run stands; not cached, because it moves."""
    try:
        return artifacts.read(run.folder, artifacts.PROGRESS)
    except ArtifactError:
        return None  # a run that never got so far, or is writing it for the first time


@st.cache_resource(show_spinner=False)
def samples() -> dict[str, bytes]:
    """Phantom slices that come with the program, by what they show."""
    files = sorted(SAMPLES.glob("*.png"))
    return {file.stem.replace("-", " ").capitalize(): file.read_bytes() for file in files}


def log(run: RunListing) -> str:
    """The text of a run's log; empty where it is not in this workspace."""
    return artifacts.read_log(artifacts.locate(), record(run).log)


def sample_scans(run: RunListing, hospital: str) -> list[tuple[Label, NDArray[np.uint8]]]:
    """One test scan of each class that the hospital has, as the audit found it; none where the dataset is elsewhere."""
    if artifacts.SPLITS not in record(run).files:
        return []
    split: SplitRecord = _fetch(run, artifacts.SPLITS)
    members = split.hospitals[hospital].test if hospital in split.hospitals else []
    first = {image.label: image for image in reversed(members)}
    return [
        (label, pixels) for label in LABELS if label in first and (pixels := picture(first[label].path)) is not None
    ]


def picture(path: str, *, mirrored: bool = False) -> NDArray[np.uint8] | None:
    """A scan of the dataset in a black square, by its path there; None where it is not on this machine."""
    if ".." in PurePosixPath(path).parts:
        return None
    try:
        pixels = decode(file_bytes(artifacts.locate().dataset / path)).pixels
    except ImageError:
        return None
    return pad_to_square(pixels[:, ::-1] if mirrored else pixels)


def has_dataset(run: RunListing) -> bool:
    """Whether the test scans of the run are on this machine, going by the first."""
    first = next(_test_scans(run), None)
    return first is not None and (artifacts.locate().dataset / first[1].path).is_file()


def _test_scans(run: RunListing) -> Iterator[tuple[str, SplitImage]]:
    if artifacts.SPLITS in record(run).files:
        split: SplitRecord = _fetch(run, artifacts.SPLITS)
        yield from ((name, scan) for name, hospital in split.hospitals.items() for scan in hospital.test)


Predict = Callable[[str, Sequence[Path]], Iterator[Prediction | None]]
"""From files of one hospital to one prediction each, None for one that cannot be read."""


def find_mistakes(run: RunListing, predict: Predict, report: Callable[[float], object]) -> list[Mistake]:
    """The test scans that `predict` gets wrong, most confident first. Once per process and model."""
    kept = _kept_mistakes()
    key = meta(run).model_sha256
    if key not in kept:
        kept[key] = _find_mistakes(list(_test_scans(run)), predict, report)
    return kept[key]


def known_mistakes(run: RunListing) -> list[Mistake] | None:
    """What `find_mistakes` found before, or None."""
    return _kept_mistakes().get(meta(run).model_sha256)


@st.cache_resource(show_spinner=False)
def _kept_mistakes() -> dict[str, list[Mistake]]:
    """By the model's hash."""
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
    """At most CHUNK scans of one hospital, with its name and how many came before."""
    start = 0
    while start < len(scans):
        hospital = scans[start][0]
        chunk = [scan for name, scan in scans[start : start + CHUNK] if name == hospital]
        yield start, hospital, chunk
        start += len(chunk)


def running() -> list[tuple[str, Progress, list[HistoryEntry]]]:
    """Runs that wrote their progress within the last minute: name, where it stands, rounds so far."""
    found = []
    for listing in list_runs():
        standing = progress(listing) if listing.record is None else None
        if standing and artifacts.age(standing.updated_at) < STILL:
            found.append((listing.name, standing, _history_so_far(listing)))
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
    """Records are immutable, so all sessions share one; the hash in the key tells a rewritten file from the old one."""
    return artifacts.read(folder, name)


Load = Callable[[Path, Path, StoredModel, str], Classifier]
"""Comes from the page, so that nothing here needs torch."""


def classifier(run: RunListing, load: Load[Classifier], hospital: str = "") -> Classifier:
    """The run's model for scans of that hospital, loaded once per process."""
    weights, distribution = run.folder / artifacts.MODEL, run.folder / artifacts.DISTRIBUTION
    found: Classifier = _load_classifier(weights, meta(run).model_sha256, hospital, distribution, meta(run), load)
    return found


def own_classifiers(run: RunListing, load: Load[Classifier]) -> dict[str, Classifier]:
    """Each hospital's own model, by hospital, where the run kept it and it is still there."""
    compared = baselines(run)
    found = {}
    for place, each in enumerate(compared.models if compared else []):
        weights, distribution = (run.folder / name for name in artifacts.local_files(place))
        if each.kind == "local" and each.stored and weights.is_file() and distribution.is_file():
            sha256 = each.stored.model_sha256
            found[each.trained_at[0]] = _load_classifier(weights, sha256, "", distribution, each.stored, load)
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
    """The hash in the key tells new weights from old ones under the same name."""
    return _load(weights, _distribution, _stored, hospital)
