"""Adaptation of a model to a hospital from outside the run, from scans of its own without labels; weights stay what they are.

The hospital's class frequencies and its OOD threshold are estimated. Both assume that the scans are brain MRI like those that
will be predicted: of a folder of photographs, photographs would be ordinary. Therefore nothing is estimated where the model
flags many more scans than it should, and the threshold moves within bounds. `evaluation.label_shift` says what else is assumed.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ConfigError, DataError, ImageError, ModelError
from medisync.evaluation.calibration import IN_DISTRIBUTION_FRACTION
from medisync.evaluation.label_shift import MIN_SCANS, LabelShift, estimate_label_shift, why_unstable
from medisync.evaluation.proportions import lower_bound
from medisync.evaluation.totals import Floats, Ints
from medisync.imaging.file_tree import LeftOut, counted
from medisync.imaging.scan_files import ScanFiles
from medisync.inference.folders import ScanPrediction, find_scans, predict_scans
from medisync.inference.predictor import Classifier, probability_rows
from medisync.schemas import LABELS, Adaptation, Interval, Label
from medisync.workspace import adaptations
from medisync.workspace.artifacts import now

MAX_FLAGGED = 2 * (1 - IN_DISTRIBUTION_FRACTION)
"""Fraction of the scans that may be out of distribution for the model as it is, twice that of the hospitals that trained it; a
larger one, surely so, shows that classes do not look as they did in training."""

SURE = 0.975
"""Level of confidence at which too many scans are out of distribution."""

THRESHOLD_BOUNDS = (0.5, 1.25)
"""Least and largest OOD threshold, in those of the model. At 1.25 times that of the published run of 2026-11-28 all of 100 parts of
photographs and 100 images of noise are flagged, at twice as much 58 % of them."""


@dataclass(frozen=True)
class UnlabelledScans:
    """What a model says of N scans without labels."""

    probabilities: Floats
    """[N, classes], calibrated, under the prior that the model assumes."""
    ood_scores: Floats
    """[N]."""
    groups: Ints
    """[N]: number of the patient, or of the scan where nothing is known about patients."""
    left_out: LeftOut
    """Files that are no scans, scans that cannot be read, and copies."""


def read_scans(classifier: Classifier, folder: Path, *, patient_folders: bool = False) -> UnlabelledScans:
    """Predicts every scan below a folder, of copies the first, of volumes one slice, as the classifier does without a hospital.

    With `patient_folders` scans that lie in one folder are of one patient. Raises DataError if there is no such folder.
    """
    found = find_scans([folder])
    left_out, read = found.left_out, []
    for each in predict_scans(classifier, _without_copies(found.scans, left_out)):
        if each.prediction is None:
            left_out.add(f"unreadable scan: {each.problem}", each.scan.name)
        else:
            read.append(each)
    predictions = [each.prediction for each in read if each.prediction]
    return UnlabelledScans(
        probabilities=probability_rows(predictions),
        ood_scores=np.array([each.distance for each in predictions]),
        groups=_groups(read) if patient_folders else np.arange(len(read)),
        left_out=left_out,
    )


def _without_copies(scans: Iterable[ScanFiles], left_out: LeftOut) -> Iterator[ScanFiles]:
    """Yields scans with different bytes: a copy would make the estimate look more certain than it is."""
    seen: set[bytes] = set()
    for scan in scans:
        content = _digest(scan)
        if content in seen:
            left_out.add("copied scan", scan.name)
        else:
            seen.update([content] if content else [])
            yield scan


def _digest(scan: ScanFiles) -> bytes:
    """The SHA-256 of a scan's files; empty if they cannot be read, which its prediction will explain."""
    found = hashlib.sha256()
    try:
        for data in scan.read():
            found.update(data)
    except ImageError:
        return b""
    return found.digest()


def _groups(read: Iterable[ScanPrediction]) -> Ints:
    folders = [str(PurePosixPath(each.scan.entries[0].name).parent) for each in read]
    return np.unique(folders, return_inverse=True)[1]


def adapt(classifier: Classifier, name: str, scans: UnlabelledScans, generator: np.random.Generator) -> Adaptation:
    """The adaptation of the model to the hospital `name`, from its scans.

    Raises DataError, with the reason and what to do, where there are too few scans, the model does not know such scans, or
    the estimate is unstable.
    """
    flagged = scans.ood_scores > classifier.calibration.distance_threshold
    _require_known_scans(flagged, scans.left_out)
    assumed = _assumed(classifier)
    shift = estimate_label_shift(scans.probabilities[~flagged], assumed, scans.groups[~flagged], generator)
    if problem := why_unstable(shift):
        raise DataError(f"the estimate is unstable: {problem}. Nothing was written")
    return Adaptation(
        name=name,
        model_sha256=classifier.meta.model_sha256,
        created_at=now(),
        scans=len(flagged),
        left_out=_kinds(scans.left_out),
        flagged=int(flagged.sum()),
        assumed=_by_label(assumed),
        estimate=_by_label(shift.estimate),
        intervals=_intervals(shift),
        prior=_by_label(shift.prior),
        distance_threshold=own_threshold(scans.ood_scores, classifier.calibration.distance_threshold),
        sha256="",  # of what is written
    )


def _kinds(left_out: LeftOut) -> dict[str, int]:
    """The number of files left out by kind; without details, which may name a file, because records are passed on."""
    kinds: Counter[str] = Counter()
    for reason, count in left_out.counts.items():
        kinds[reason.partition(":")[0]] += count
    return dict(kinds)


def require_adaptable(classifier: Classifier, text: str) -> str:
    """The name under which an adaptation to the hospital `text` is stored.

    Raises ConfigError for a hospital that the model knows itself, ModelError for a model of a run that did not record what
    its probabilities assume.
    """
    _assumed(classifier)
    name = adaptations.checked_name(text)
    if name.casefold() in map(str.casefold, classifier.meta.distinguishes):
        raise ConfigError(
            f"--name {name}: the model has a calibration of its own for this hospital; choose another name"
        )
    return name


def _require_known_scans(flagged: NDArray[np.bool_], left_out: LeftOut) -> None:
    total, count = len(flagged), int(flagged.sum())
    besides = f"; left out: {left_out}" if left_out else ""
    if lower_bound(count, total, SURE) > MAX_FLAGGED:
        raise DataError(
            f"{count} of {counted(total, 'scan')} are out of distribution, of the hospitals' own scans"
            f" {_percent(1 - IN_DISTRIBUTION_FRACTION)} are: what the model says of scans that look so different is no ground for an"
            " estimate. Look whether all are brain MRI; if they are, use the model without adapting it, and heed its verdicts."
            " Nothing was written"
        )
    if total - count < MIN_SCANS:
        raise DataError(
            f"{counted(total - count, 'scan')} can be used ({total} read, {count} of them out of distribution{besides}),"
            f" at least {MIN_SCANS} are needed; bring more. Nothing was written"
        )


def _assumed(classifier: Classifier) -> Floats:
    """The class frequencies that the classifier's probabilities assume: their mean over validation scans."""
    mean = classifier.calibration.mean_probabilities
    if mean is None:
        raise ModelError(
            "the model's run did not record which class frequencies its probabilities assume, as runs do since 2026-11-28; use"
            " a newer run, or train again"
        )
    return np.array([mean[label] for label in LABELS])


def own_threshold(ood_scores: Floats, threshold: float) -> float:
    """The OOD score that at most 5 % of the scans [N] exceed, no further from the model's than THRESHOLD_BOUNDS allow."""
    rank = math.ceil(IN_DISTRIBUTION_FRACTION * len(ood_scores))
    low, high = (bound * threshold for bound in THRESHOLD_BOUNDS)
    return float(np.clip(np.sort(ood_scores)[rank - 1], low, high))


def _by_label(values: Floats) -> dict[Label, float]:
    return {label: round(float(value), 6) for label, value in zip(LABELS, values, strict=True)}


def _intervals(shift: LabelShift) -> dict[Label, Interval]:
    rows = np.clip(shift.intervals, 0.0, 1.0).round(6)
    return {label: Interval(low=float(low), high=float(high)) for label, (low, high) in zip(LABELS, rows, strict=True)}


def summary(record: Adaptation, scans: UnlabelledScans, threshold: float) -> str:
    """What was estimated, as lines for a terminal, beside what the model assumes; `threshold` is its own OOD threshold."""
    before, after = ((scans.ood_scores > limit).mean() for limit in (threshold, record.distance_threshold))
    rows = [
        f"{label:12}{_percent(record.assumed[label]):>10}{_percent(record.estimate[label]):>11}"
        f"  {f'{100 * record.intervals[label].low:.1f} to {_percent(record.intervals[label].high)}':18}"
        f"{_percent(record.prior[label]):>8}"
        for label in LABELS
    ]
    return "\n".join(
        [
            f"{'prior':12}{'assumed':>10}{'estimated':>11}  {'95 % interval':18}{'used':>8}",
            *rows,
            f"from {counted(record.scans - record.flagged, 'scan')}; {record.flagged} more are out of distribution",
            f"OOD threshold {threshold:.3f} before, {record.distance_threshold:.3f} after;"
            f" flags {_percent(before)} before, {_percent(after)} after, of {counted(record.scans, 'scan')}",
        ]
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
