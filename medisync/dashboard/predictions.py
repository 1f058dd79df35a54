"""Predictions of a run's models, for pages. The only module of the dashboard that needs torch; it imports it when asked.

Results for an upload stay in the session of the person who sent it, for as long as the upload does.
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
from medisync.dashboard.uploads import Upload
from medisync.data.decoding import open_scan
from medisync.data.intensities import Pixels
from medisync.errors import ImageError
from medisync.schemas import Prediction
from medisync.workspace.artifacts import RunListing

if TYPE_CHECKING:
    from medisync.inference.predictor import Classifier

Result = TypeVar("Result")

RESULTS_KEY = "upload-results"
"""The key in the session state of the results for uploads."""


@dataclass(frozen=True)
class PredictedScan:
    """One upload, the image uint8 [S, S] as the network received it, and the global model's prediction for it."""

    scan: Upload
    hospital: str
    """The hospital where the scan was made, if the model has running statistics of that hospital; empty otherwise."""
    slice_number: int | None
    pixels: Pixels
    prediction: Prediction


def classifier(run: RunListing, hospital: str = "") -> "Classifier":
    """Returns the run's model for scans of that hospital. Raises ModelError if its weights are not those the run wrote."""
    from medisync.inference import predictor

    return data.classifier(run, predictor.load, hospital)


def predict(run: RunListing, scan: Upload, hospital: str = "", slice_number: int | None = None) -> PredictedScan | str:
    """Returns the prediction, or the reason why there is none."""
    key = ("prediction", scan.key, run.name, hospital, slice_number)
    return _once(key, lambda: _predict(run, scan, hospital, slice_number))


def _predict(run: RunListing, scan: Upload, hospital: str, slice_number: int | None) -> PredictedScan | str:
    from medisync.inference import predictor

    if scan.problem:
        return scan.problem
    model = classifier(run, hospital)
    try:
        decoded = open_scan(scan.files).decode(slice_number)
    except ImageError as problem:
        return str(problem)
    return PredictedScan(scan, hospital, slice_number, *predictor.standardise_and_predict(model, decoded))


def heat(run: RunListing, found: PredictedScan) -> NDArray[np.float32]:
    """Returns the heat map of the global model's prediction, [S, S] in [0, 1]."""
    from medisync.inference import explanation

    def explain() -> NDArray[np.float32]:
        return explanation.explain(classifier(run, found.hospital), found.pixels, found.prediction.label)

    return _once(("heat", found.scan.key, run.name, found.hospital, found.slice_number), explain)


def local_predictions(run: RunListing, found: PredictedScan) -> dict[str, Prediction]:
    """Returns the local models' predictions for the same image, by hospital; none if the run did not store them."""
    from medisync.inference import predictor

    def predict_all() -> dict[str, Prediction]:
        models = data.local_classifiers(run, predictor.load)
        return {name: predictor.predict_standardised(model, found.pixels) for name, model in models.items()}

    return _once(("local", found.scan.key, run.name, found.slice_number), predict_all)


def _once(key: tuple[Hashable, ...], make: Callable[[], Result]) -> Result:
    """Returns the result for this key, computed once per session."""
    results = st.session_state.setdefault(RESULTS_KEY, {})
    if key not in results:
        results[key] = make()
    found: Result = results[key]
    return found


def forget_all_but(scans: Sequence[Upload]) -> None:
    """Drops the results for uploads that were removed."""
    results, present = st.session_state.setdefault(RESULTS_KEY, {}), {scan.key for scan in scans}
    for key in [key for key in results if key[1] not in present]:
        del results[key]


def find_mistakes(run: RunListing, report: Callable[[float], object]) -> list[Mistake]:
    """Returns the test scans that the global model misclassifies, most confident first.

    `report` receives the fraction of the scans that are done.
    """
    from medisync.inference import folders

    own = data.meta(run).statistics_of

    def predict_all(hospital: str, paths: Sequence[Path]) -> Iterator[Prediction | None]:
        model = classifier(run, hospital if hospital in own else "")
        return (reading.prediction for reading in folders.predict_files(model, paths))

    return data.find_mistakes(run, predict_all, report)
