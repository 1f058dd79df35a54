"""What pages fetch: the runs of the workspace and their records. The only user of Streamlit's caches."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import streamlit as st
import streamlit.components.v1 as components
from numpy.typing import NDArray

from medisync import artifacts, images
from medisync.artifacts import RunListing as RunListing  # pages take it from here
from medisync.errors import ArtifactError, ImageError
from medisync.records import (
    LABELS,
    AuditRecord,
    BaselineRecord,
    HistoryEntry,
    Label,
    ModelMeta,
    Progress,
    RunRecord,
    SplitRecord,
)

Classifier = TypeVar("Classifier")

SAMPLES = Path(__file__).parent / "samples"

STILL = 60.0
"""Seconds without a sign after which a run is not called running."""

RUN_KEY = "run"
"""The run picker's key in the session: a name of `readable`."""

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
        (label, pixels)
        for label in LABELS
        if label in first and (pixels := _scan(artifacts.locate().dataset / first[label].path)) is not None
    ]


def _scan(path: Path) -> NDArray[np.uint8] | None:
    try:
        return images.decode(images.file_bytes(path)).pixels
    except ImageError:
        return None


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


def classifier(run: RunListing, load: Callable[[Path, Path, ModelMeta], Classifier]) -> Classifier:
    """The run's model, loaded once per process. `load` comes from the page, so that nothing here needs torch."""
    return _load_classifier(run.folder, meta(run).model_sha256, load, meta(run))


@st.cache_resource(max_entries=2, show_spinner="Loading the model…")
def _load_classifier(
    folder: Path,
    sha256: str,  # noqa: ARG001
    _load: Callable[[Path, Path, ModelMeta], Classifier],
    _meta: ModelMeta,
) -> Classifier:
    return _load(folder / artifacts.MODEL, folder / artifacts.DISTRIBUTION, _meta)
