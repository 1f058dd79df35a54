"""How a model does outside its hospitals: records of the external evaluation -> tables and the claims that hold there.

Scans of "other" are of none of the classes, so that every answer for them is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from medisync.reporting.formatting import (
    CLASS_NAMES,
    NO_VALUE,
    auc_with_interval,
    decimal,
    number,
    percent,
    plain,
    with_interval,
    yes_no,
)
from medisync.reporting.tables import coverage_and_risk, table
from medisync.schemas import (
    OTHER,
    AuditRecord,
    BaselineRecord,
    ExternalEvaluation,
    ExternalLabel,
    Metrics,
    ModelMetrics,
    SelectiveMetrics,
)

CONFIDENTLY_WRONG = "Wrong with confidence over 90 %, not flagged"

NONE_OF_THE_CLASSES = "None of the classes"

TUMOUR_AUC, SAME = "Tumour against no tumour, AUROC", "The same"
OOD_AUC = "OOD score against the hospitals' scans, AUROC"
FPR95 = "The hospitals' scans flagged where 95 % of these are"

COLUMNS = ("Measure", "Hospitals' test scans", "Outside, the four classes", "Outside, none of the classes")


def inside(found: ModelMetrics) -> Metrics:
    """Returns the hospitals' figures that stand beside those from outside: as if the scans' hospitals were not known."""
    return found.test_elsewhere or found.test


def class_name(label: ExternalLabel | None) -> str:
    """Returns the name of the class that an external folder stands for."""
    names: Mapping[str, str] = {
        **{str(known): name for known, name in CLASS_NAMES.items()},
        OTHER: NONE_OF_THE_CLASSES,
    }
    return names[label] if label else "unresolved, left out"


def scans(found: ExternalEvaluation) -> pd.DataFrame:
    """Returns the folders of an external dataset, what they stand for and how many of their scans were evaluated."""
    rows = [(plain(each.name), class_name(each.label), number(each.images)) for each in found.folders]
    return table(("Folder", "Class", "Scans"), rows)


def audited(audit: AuditRecord) -> pd.DataFrame:
    """Returns the folders of the external datasets with the images found in them; folders in no class map come first."""
    rows = [
        (plain(name), plain(folder.name), class_name(folder.label), number(folder.images))
        for name, found in audit.external.items()
        for folder in sorted(found.folders, key=lambda folder: folder.label is not None)
    ]
    return table(("External dataset", "Folder", "Class", "Images"), rows)


def excluded(audit: AuditRecord) -> pd.DataFrame:
    """Returns every image of the external datasets that is not evaluated, with the reason."""
    rows = [
        (plain(name), plain(image.path), plain(image.excluded))
        for name, found in audit.external.items()
        for image in found.images
        if image.excluded
    ]
    return table(("External dataset", "File", "Reason"), rows)


def figures(inside: Metrics, found: ExternalEvaluation) -> pd.DataFrame:
    """Returns the figures of the hospitals' test scans beside those of an external dataset's scans."""
    known, other = found.known, found.other_selective
    answered = (inside.selective, known.selective if known else None, other)
    healthy = inside.per_class.get("notumor")
    rows = [
        _row("Scans", number(inside.n), number(known.n if known else 0), number(other.n if other else 0)),
        _row("Accuracy", *(with_interval(each, "accuracy") for each in (inside, known))),
        _row("Balanced accuracy", *(with_interval(each, "balanced_accuracy") for each in (inside, known))),
        *_sensitivities(inside, known),
        _row(TUMOUR_AUC, auc_with_interval(healthy, "auc") if healthy else NO_VALUE, decimal(found.tumour_auc)),
        _row(
            f"{SAME}, healthy from outside, tumours of the hospitals", known=decimal(found.tumour_auc_external_healthy)
        ),
        _row(
            f"{SAME}, tumours from outside, healthy of the hospitals", known=decimal(found.tumour_auc_external_tumours)
        ),
        _row("Calibration error (ECE)", percent(inside.ece), percent(known.ece if known else None)),
        _row(CONFIDENTLY_WRONG, *(with_interval(each, "confidently_wrong") for each in answered)),
        _row("Flagged as out of distribution", *(with_interval(each, "flagged") for each in answered)),
        _row("Wrong among those not flagged", *(percent(risk(each)) for each in answered)),
        *_answers(answered),
        _row(OOD_AUC, NO_VALUE, *map(decimal, (found.ood_auc_known, found.ood_auc_other))),
        _row(FPR95, NO_VALUE, *map(percent, (found.ood_fpr95_known, found.ood_fpr95_other))),
    ]
    shown = table(COLUMNS, [row for row in rows if set(row[1:]) != {NO_VALUE}])
    return shown.loc[:, shown.loc["Scans"] != "0"]


def _row(measure: str, inside: str = NO_VALUE, known: str = NO_VALUE, other: str = NO_VALUE) -> tuple[str, ...]:
    return measure, inside, known, other


def _sensitivities(inside: Metrics, known: Metrics | None) -> Iterator[tuple[str, ...]]:
    """Yields a row for each class of which there are scans from outside."""
    for label, each in known.per_class.items() if known else ():
        if each.support:
            both = (inside.per_class.get(label), each)
            yield _row(f"Sensitivity, {CLASS_NAMES[label].lower()}", *(with_interval(of, "recall") for of in both))


def _answers(sets: Sequence[SelectiveMetrics | None]) -> Iterator[tuple[str, ...]]:
    """Yields the rows of coverage and risk; none for a run before verdicts."""
    figures = [coverage_and_risk(each) for each in sets]
    for name in dict.fromkeys(name for each in figures for name in each):
        yield _row(name, *(each.get(name, NO_VALUE) for each in figures))


def risk(found: SelectiveMetrics | None) -> float | None:
    """Returns the fraction of answers that are wrong if every scan that is not flagged is answered."""
    return found.points[-1].risk if found and found.points else None


@dataclass(frozen=True)
class Claim:
    """What a reader would like to rely on, a limit, and the figure that was found on scans from outside."""

    name: str
    limit: float
    found: float
    kind: Literal["at least", "at most"]
    is_fraction: bool = True

    @property
    def holds(self) -> bool:
        return self.found >= self.limit if self.kind == "at least" else self.found <= self.limit

    def shown(self, value: float) -> str:
        return percent(value) if self.is_fraction else decimal(value)


def claims(found: ExternalEvaluation) -> list[Claim]:
    """Returns the claims that can be judged on this dataset; their limits are what this project aims at."""
    return list(_claims(found))


def _claims(found: ExternalEvaluation) -> Iterator[Claim]:
    known, other = found.known, found.other_selective
    if known and known.accuracy is not None:
        yield Claim("Accuracy", 0.75, known.accuracy, "at least")
    for name, area in _tumour_areas(found).items():
        yield Claim(name, 0.85, area, "at least", is_fraction=False)
    if known and known.ece is not None:
        yield Claim("Calibration error (ECE)", 0.12, known.ece, "at most")
    if known and known.selective:
        yield Claim(CONFIDENTLY_WRONG, 0.02, known.selective.confidently_wrong, "at most")
    if other:
        yield Claim(
            f"{NONE_OF_THE_CLASSES}: confidence over 90 %, not flagged", 0.05, other.confidently_wrong, "at most"
        )
    if found.ood_auc_other is not None:
        yield Claim(
            f"{NONE_OF_THE_CLASSES}: OOD score, AUROC", 0.85, found.ood_auc_other, "at least", is_fraction=False
        )


def _tumour_areas(found: ExternalEvaluation) -> dict[str, float]:
    areas = {
        TUMOUR_AUC: found.tumour_auc,
        f"{TUMOUR_AUC}, healthy from outside": found.tumour_auc_external_healthy,
        f"{TUMOUR_AUC}, tumours from outside": found.tumour_auc_external_tumours,
    }
    return {name: area for name, area in areas.items() if area is not None}


def claim_table(found: ExternalEvaluation) -> pd.DataFrame:
    """Returns which claims hold on this dataset."""
    rows = [
        (each.name, f"{each.kind} {each.shown(each.limit)}", each.shown(each.found), yes_no(each.holds))
        for each in claims(found)
    ]
    return table(("Outside the hospitals", "Wanted", "Found", "Holds"), rows)


def left_out_hospitals(compared: BaselineRecord) -> pd.DataFrame:
    """Returns the accuracy at each hospital of the federated model and of the one trained without that hospital.

    The second is what the hospital could expect before it joined. Empty where no such model was trained.
    """
    federated, names = compared.models[0], list(compared.models[0].hospitals)
    rows = [
        (
            plain(name),
            with_interval(federated.hospitals[name], "accuracy"),
            with_interval(each.hospitals[name], "accuracy"),
        )
        for each in compared.models
        if each.kind == "leave-one-out"
        for name in names
        if name not in each.trained_at
    ]
    return table(("Test scans of", "Trained with this hospital", "Trained without it"), rows)
