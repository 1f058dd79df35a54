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
from medisync.errors import ImageError
from medisync.imaging.decoding import Scan, open_scan
from medisync.imaging.intensities import Pixels
from medisync.imaging.scan_files import single_file
from medisync.schemas import Prediction
from medisync.workspace.artifacts import RunListing

if TYPE_CHECKING:
    from medisync.inference.predictor import Classifier

Result = TypeVar("Result")

RESULTS_KEY = "upload-results"
"""The key in the session state of the results for uploads."""

OPENED_KEY = "opened-upload"
"""The key in the session state of the upload that was opened last: a volume takes long to unpack."""

MAX_ALONG = 256
"""Most slices of a volume whose probabilities are shown together."""


@dataclass(frozen=True)
class PredictedScan:
    """One upload, a slice of it uint8 [S, S] as the network received it, and the global model's prediction for it."""

    scan: Upload
    hospital: str
    """The hospital where the scan was made, if the model distinguishes that hospital; empty otherwise."""
    pixels: Pixels
    prediction: Prediction


@dataclass(frozen=True)
class Answer:
    """What a page shows for one upload: the prediction for one slice of it, or the reason why there is none."""

    scan: Upload
    hospital: str
    found: PredictedScan | str
    slice_number: int
    """The slice that is shown, from 1."""
    slices: int
    """Number of slices in the upload; 0 if it cannot be opened."""

    @property
    def result(self) -> Prediction | str:
        return self.found if isinstance(self.found, str) else self.found.prediction


def classifier(run: RunListing, hospital: str = "") -> "Classifier":
    """Returns the run's model for scans of that hospital. Raises ModelError if its weights are not those the run wrote."""
    from medisync.inference import predictor

    return data.classifier(run, predictor.load, hospital)


def answer(run: RunListing, scan: Upload, hospital: str = "", slice_number: int | None = None) -> Answer:
    """Returns the answer for a slice of an upload, by default the one that `Scan.decode` chooses."""
    found = predict(run, scan, hospital, slice_number)
    if isinstance(found, PredictedScan):
        return Answer(scan, hospital, found, found.prediction.slice_number, found.prediction.slices)
    slices = _count(scan)
    return Answer(scan, hospital, found, slice_number or slices // 2 + 1, slices)


def predict(run: RunListing, scan: Upload, hospital: str = "", slice_number: int | None = None) -> PredictedScan | str:
    """Returns the prediction, or the reason why there is none."""

    def key(number: int | None) -> tuple[Hashable, ...]:
        return "prediction", scan.key, _version(run), hospital, number

    found = _once(key(slice_number), lambda: _predict(run, scan, hospital, slice_number))
    if isinstance(found, PredictedScan):
        _once(
            key(found.prediction.slice_number), lambda: found
        )  # the slice chosen by default is asked for by number later
    return found


def _predict(run: RunListing, scan: Upload, hospital: str, slice_number: int | None) -> PredictedScan | str:
    from medisync.inference import predictor

    if scan.problem:
        return scan.problem
    model = classifier(run, hospital)
    try:
        decoded = _open(scan).decode(slice_number)
    except ImageError as problem:
        return str(problem)
    return PredictedScan(scan, hospital, *predictor.standardise_and_predict(model, decoded))


def _open(scan: Upload) -> Scan:
    """Opens an upload, unless it is the one that was opened last. Raises ImageError with one sentence."""
    key, opened = st.session_state.get(OPENED_KEY, ("", None))
    if key != scan.key:
        opened = open_scan(scan.files)
        st.session_state[OPENED_KEY] = scan.key, opened
    found: Scan = opened
    return found


def _count(scan: Upload) -> int:
    """Returns the number of slices of an upload; 0 if it cannot be opened."""
    try:
        return 0 if scan.problem else _open(scan).count
    except ImageError:
        return 0


def along_slices(run: RunListing, shown: Answer, report: Callable[[float], object]) -> dict[int, Prediction | str]:
    """Returns the prediction for each slice of a volume, by number from 1, or the reason why there is none.

    Of more than MAX_ALONG slices only so many, evenly spaced, and the one that is shown. `report` receives the fraction that
    is done; if it raises, as Streamlit does when the page changes, the next call goes on from there.
    """
    from medisync.inference import predictor

    numbers = predictor.slice_numbers(shown.slices, MAX_ALONG)
    known: dict[int, Prediction | str] = _once(("slices", shown.scan.key, _version(run), shown.hospital), dict)
    if missing := [number for number in numbers if number not in known]:
        found = predictor.predict_slices(classifier(run, shown.hospital), _open(shown.scan), missing)
        for number, each in zip(missing, found, strict=True):
            known[number] = each
            report(len(known) / len(numbers))
    return dict(sorted((known | {shown.slice_number: shown.result}).items()))


def heat(run: RunListing, found: PredictedScan) -> NDArray[np.float32]:
    """Returns the heat map of the global model's prediction, [S, S] in [0, 1]."""
    from medisync.inference import explanation

    def explain() -> NDArray[np.float32]:
        return explanation.explain(classifier(run, found.hospital), found.pixels, found.prediction.label)

    return _once(("heat", found.scan.key, _version(run), found.hospital, found.prediction.slice_number), explain)


def local_predictions(run: RunListing, found: PredictedScan) -> dict[str, Prediction]:
    """Returns the local models' predictions for the same image, by hospital; none if the run did not store them."""
    from medisync.inference import predictor

    def predict_all() -> dict[str, Prediction]:
        models = data.local_classifiers(run, predictor.load)
        return {name: predictor.predict_standardised(model, found.pixels) for name, model in models.items()}

    return _once(("local", found.scan.key, _version(run), found.prediction.slice_number), predict_all)


def _version(run: RunListing) -> str:
    """Returns what tells a run's model from all others: a deleted run's name may be used again."""
    return data.meta(run).model_sha256


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
    if st.session_state.get(OPENED_KEY, ("",))[0] not in present:
        st.session_state.pop(OPENED_KEY, None)


def find_mistakes(run: RunListing, report: Callable[[float], object]) -> list[Mistake]:
    """Returns the test scans that the global model misclassifies, most confident first.

    `report` receives the fraction of the scans that are done.
    """
    from medisync.inference import folders

    own = data.meta(run).distinguishes

    def predict_all(hospital: str, paths: Sequence[Path]) -> Iterator[Prediction | None]:
        model = classifier(run, hospital if hospital in own else "")
        return (reading.prediction for reading in folders.predict_scans(model, map(single_file, paths)))

    return data.find_mistakes(run, predict_all, report)
