"""What pages ask of a run's models. The only place of the dashboard that needs torch, which is imported when first asked.

What was made of an upload is kept in the session of the person who sent it, while the upload is there.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from medisync.dashboard import data
from medisync.dashboard.data import Mistake
from medisync.dashboard.uploads import Scan
from medisync.data.decoding import decode
from medisync.data.intensities import Pixels
from medisync.data.preprocessing import standardise
from medisync.errors import ImageError
from medisync.schemas import Prediction
from medisync.workspace.artifacts import RunListing

if TYPE_CHECKING:
    from medisync.inference.predictor import Classifier

Made = TypeVar("Made")

KEPT = "made-of-uploads"


@dataclass(frozen=True)
class Answer:
    """What the global model says about one image, and the image uint8 [S, S] as it saw it."""

    scan: Scan
    hospital: str
    """Where the scan is from, if that matters to the model; empty otherwise."""
    slice: int | None
    pixels: Pixels
    prediction: Prediction


def classifier(run: RunListing, hospital: str = "") -> "Classifier":
    """For scans of that hospital. Raises ModelError where the weights are not those that the run wrote."""
    from medisync.inference import predictor

    return data.classifier(run, predictor.load, hospital)


def own_classifiers(run: RunListing) -> dict[str, "Classifier"]:
    """Each hospital's own model, by hospital; none where the run did not keep them, or they were removed."""
    from medisync.inference import predictor

    return data.own_classifiers(run, predictor.load)


def answer(run: RunListing, scan: Scan, hospital: str = "", slice_number: int | None = None) -> Answer | str:
    """The answer, or the sentence that says why there is none. The file is decoded once."""
    return _once(
        ("answer", scan.key, run.name, hospital, slice_number), lambda: _answer(run, scan, hospital, slice_number)
    )


def _answer(run: RunListing, scan: Scan, hospital: str, slice_number: int | None) -> Answer | str:
    from medisync.inference import predictor

    if scan.problem:
        return scan.problem
    model = classifier(run, hospital)
    try:
        decoded = decode(scan.content, slice_number)
    except ImageError as problem:
        return str(problem)
    pixels = standardise(decoded.pixels, model.meta.image_size)
    return Answer(scan, hospital, slice_number, pixels, predictor.predict_decoded(model, decoded))


def heat(run: RunListing, found: Answer) -> NDArray[np.float32]:
    """Where the global model looked: [S, S], from 0 to 1."""
    from medisync.inference import explanation

    def explain() -> NDArray[np.float32]:
        return explanation.explain(classifier(run, found.hospital), found.pixels, found.prediction.label)

    return _once(("heat", found.scan.key, run.name, found.hospital, found.slice), explain)


def opinions(run: RunListing, found: Answer) -> dict[str, Prediction]:
    """What each hospital's own model says about the same image, by hospital."""
    from medisync.inference import predictor

    def ask() -> dict[str, Prediction]:
        asked = own_classifiers(run)
        return {name: predictor.predict_standardised(model, found.pixels) for name, model in asked.items()}

    return _once(("opinions", found.scan.key, run.name, found.slice), ask)


def _once(key: tuple[Hashable, ...], make: Callable[[], Made]) -> Made:
    """What `make` gave for this key in this session."""
    kept = st.session_state.setdefault(KEPT, {})
    if key not in kept:
        kept[key] = make()
    found: Made = kept[key]
    return found


def forget_all_but(scans: Sequence[Scan]) -> None:
    """What was made of uploads that were taken away goes with them."""
    kept, present = st.session_state.setdefault(KEPT, {}), {scan.key for scan in scans}
    for key in [key for key in kept if key[1] not in present]:
        del kept[key]


def find_mistakes(run: RunListing, report: Callable[[float], object]) -> list[Mistake]:
    """The test scans that the global model gets wrong, most confident first; `report` is told the share that is done."""
    from medisync.inference import predictor

    own = data.meta(run).statistics_of

    def predict(hospital: str, paths: Sequence[Path]) -> Iterator[Prediction | None]:
        model = classifier(run, hospital if hospital in own else "")
        return (reading.prediction for reading in predictor.predict_files(model, paths))

    return data.find_mistakes(run, predict, report)
