"""Records -> the tables and headline figures that pages show; no streamlit, no torch.

Tables are pandas Stylers, so that numbers stay numbers and an undefined one is a dash, never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from medisync.reporting.formatting import CLASS_NAMES, NO_VALUE, count, escape, interval, moment, percent, plain
from medisync.schemas import (
    LABELS,
    SPLITS,
    ClassMetrics,
    DatasetStats,
    Label,
    Metrics,
    ModelMeta,
    Prediction,
    RunRecord,
    Transport,
)

PLACES: Mapping[Transport, str] = {
    "in one process": "all hospitals in one process",
    "over the network": "one process per hospital, over a network",
}


@dataclass(frozen=True)
class Headline:
    """One figure that stands alone: its name, its value in words, and how sure it is."""

    label: str
    value: str
    interval: str = ""
    help: str = ""


def style(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = (), *, fractions: Sequence[str] = ()) -> Styler:
    """A table of `rows`; whole numbers get thousands separators, `fractions` become percent."""
    frame = pd.DataFrame(list(rows), columns=list(columns) or None)
    for name in frame.select_dtypes("number"):
        # Nullable types: a count beside an undefined one stays a whole number.
        frame[name] = frame[name].astype("Float64" if name in fractions else frame[name].convert_dtypes().dtype)
    formats: dict[Any, Any] = dict.fromkeys(fractions, percent)
    return frame.style.format(formats, na_rep=NO_VALUE, thousands=",")


def summary(run: RunRecord, meta: ModelMeta) -> str:
    """What a run is, in a few sentences of Markdown."""
    images = sum(stats.total for stats in meta.datasets.values())
    return (
        f"One ResNet18, trained by federated averaging across **{count(len(meta.datasets), 'simulated hospital')}** on "
        f"**{count(images, 'scan')}** ({meta.image_size} × {meta.image_size} pixels; {PLACES[run.transport]}). "
        f"Round **{meta.best_epoch} of {meta.num_epochs}** was kept, chosen on validation scans alone. "
        f"{escape(run.run)} finished {moment(run.finished_at)}."
    )


def headlines(metrics: Metrics) -> list[Headline]:
    """The figures of a test set; intervals are 95 % bootstrap intervals."""
    names = [
        ("accuracy", "Accuracy", "Share of scans given the right class."),
        ("balanced_accuracy", "Balanced accuracy", "Mean recall over the classes: a rare class counts like any other."),
        ("macro_f1", "Macro F1", "Mean F1 over the classes."),
    ]
    figures = [
        Headline(label, percent(getattr(metrics, name)), interval(metrics.intervals.get(name)), text)
        for name, label, text in names
    ]
    ece = "Expected calibration error: the mean gap between confidence and accuracy. 0 % is perfect."
    return [*figures, Headline("Calibration error", percent(metrics.ece), help=ece)]


def test_set_note(meta: ModelMeta) -> str:
    return (
        f"On {count(meta.metrics.test.n, 'test scan')} that no hospital trained on and no choice looked at. Intervals are "
        "95 % bootstrap intervals over groups of related scans."
    )


def hospitals(meta: ModelMeta) -> Styler:
    return style(
        [_hospital_row(name, stats, meta.metrics.hospitals.get(name)) for name, stats in meta.datasets.items()]
    )


def _hospital_row(name: str, stats: DatasetStats, metrics: Metrics | None) -> dict[str, Any]:
    missing = _lacking(stats)
    return {
        "Hospital": escape(name),
        "Scans": stats.total,
        "Lacks": ", ".join(missing) or NO_VALUE,
        "Test accuracy (95 %)": with_interval(metrics, "accuracy"),
    }


def with_interval(metrics: Metrics | ClassMetrics | None, name: str) -> str:
    """`91.8 % (86.0–96.0)`: breaks before the bracket only, so that a narrow column stays legible."""
    if metrics is None:
        return NO_VALUE
    found = metrics.intervals.get(name)
    return percent(getattr(metrics, name)) + (f" ({100 * found.low:.1f}–{100 * found.high:.1f})" if found else "")


def _lacking(stats: DatasetStats) -> list[str]:
    return [CLASS_NAMES[label] for label in LABELS if not stats.class_distribution.get(label)]


def hospital_summary(name: str, stats: DatasetStats) -> str:
    """Who this is and what it lacks, as Markdown."""
    missing = _lacking(stats)
    lacks = f" It has no scan of the class {' or '.join(missing).lower()}." if missing else ""
    parts = {part: sum(stats.splits.get(part, {}).values()) for part in SPLITS}
    uses = f" {parts['train']:,} scans to train on, {parts['val']:,} to validate and {parts['test']:,} to test."
    specialty = f", {escape(stats.specialty)}" if stats.specialty else ""
    return f"**{escape(name)}** (simulated){specialty}.{lacks}{uses if stats.splits else ''}"


def hospital_headlines(stats: DatasetStats, metrics: Metrics) -> list[Headline]:
    found = sum(stats.found.values()) if stats.found else stats.total
    given = f"{found - stats.total:,} of those found belong to another hospital, which has the same slices."
    return [
        Headline("Scans found", f"{found:,}", help="Usable ones, before slices that several have got one owner."),
        Headline("Scans used", f"{stats.total:,}", help=given),
        *headlines(metrics)[:2],
        Headline("Calibration error", percent(metrics.ece), help="Mean gap between confidence and accuracy here."),
    ]


def per_class(metrics: Metrics) -> Styler:
    """The figures alone, for half of a page."""
    rows = [
        {
            "Class": CLASS_NAMES[label],
            "Scans": found.support,
            "Sensitivity": found.recall,
            "Precision": found.precision,
            "F1": found.f1,
        }
        for label, found in metrics.per_class.items()
    ]
    return style(rows, fractions=["Sensitivity", "Precision", "F1"])


def per_class_in_full(metrics: Metrics) -> Styler:
    """Each figure with its interval."""
    names = {"recall": "Sensitivity", "specificity": "Specificity", "precision": "Precision", "f1": "F1"}
    return style(
        {
            "Class": CLASS_NAMES[label],
            "Scans": found.support,
            **{title: with_interval(found, name) for name, title in names.items()},
            "AUC": NO_VALUE if found.auc is None else f"{found.auc:.3f}",
        }
        for label, found in metrics.per_class.items()
    )


def trust(metrics: Metrics) -> Styler:
    """How far the model's own doubts can be relied on."""
    size = NO_VALUE if metrics.set_size is None else f"{metrics.set_size:.2f}"
    rows = {
        "90 % prediction sets that hold the true class": percent(metrics.coverage),
        "Classes in a prediction set, on average": size,
        "Scans called unlike the training scans (5 % of validation)": percent(metrics.unlike_training),
        "Brier score, 0 is perfect": NO_VALUE if metrics.brier is None else f"{metrics.brier:.3f}",
    }
    return style([{"What the model says of its own limits": name, "": value} for name, value in rows.items()])


def per_hospital(meta: ModelMeta) -> Styler:
    rows = [
        {
            "Hospital": escape(name),
            "Test scans": found.n,
            "Accuracy (95 %)": with_interval(found, "accuracy"),
            "Balanced accuracy": found.balanced_accuracy,
            "Macro F1": found.macro_f1,
            "Calibration error": found.ece,
        }
        for name, found in meta.metrics.hospitals.items()
    ]
    return style(rows, fractions=["Balanced accuracy", "Macro F1", "Calibration error"])


def predictions(found: Sequence[tuple[str, Prediction | str]]) -> pd.DataFrame:
    """One row per upload: (file name, prediction or the sentence that says why there is none)."""
    columns = ["File", "Class", "Confidence", "Unlike the training scans", "Note"]
    return pd.DataFrame([_prediction_row(name, result) for name, result in found], columns=columns)


def _prediction_row(name: str, result: Prediction | str) -> tuple[str, str, str, str, str]:
    if isinstance(result, str):
        return plain(name, 80), NO_VALUE, NO_VALUE, NO_VALUE, plain(result)
    unlike = "yes" if result.unlike_training else "no"
    return (
        plain(name, 80),
        CLASS_NAMES[result.label],
        percent(result.confidence),
        unlike,
        plain("; ".join(result.notes)),
    )


def mistake(label: Label, prediction: Prediction) -> str:
    """What a scan shows and what the model said, as Markdown."""
    said = f"said **{CLASS_NAMES[prediction.label].lower()}**, {percent(prediction.confidence)}"
    return f"**{CLASS_NAMES[label]}**, {said}{', unlike the training scans' if prediction.unlike_training else ''}"


def mistake_words(label: Label, prediction: Prediction) -> str:
    return f"A test scan: {CLASS_NAMES[label].lower()}, taken for {CLASS_NAMES[prediction.label].lower()}"


def mistakes_summary(found: int, shown: int) -> str:
    if not found:
        return "No test scan was given a wrong class."
    return f"{count(found, 'test scan')} of these were given a wrong class" + (
        f"; the {shown} that the model was surest of:" if found > shown else ":"
    )


def opinions(ours: Prediction, others: Mapping[str, Prediction]) -> Styler:
    """What the global model says beside each hospital's own."""
    named = {"Global model": ours, **{f"{escape(name)} alone": each for name, each in others.items()}}
    return style(
        {
            "Model": name,
            "Says": CLASS_NAMES[each.label],
            "Confidence": percent(each.confidence),
            "Unlike its own scans": "yes" if each.unlike_training else "no",
        }
        for name, each in named.items()
    )


def agreement(ours: Prediction, others: Mapping[str, Prediction]) -> str:
    agreed = sum(each.label == ours.label for each in others.values())
    return f"{agreed} of {count(len(others), 'hospital')} would say the same with a model of {'its' if len(others) == 1 else 'their'} own"


def checks(prediction: Prediction) -> Styler:
    rows = [
        {
            "Check": escape(check.name),
            "Result": "passed" if check.passed else "look twice",
            "Found": escape(check.detail),
        }
        for check in prediction.checks
    ]
    return style(rows, ["Check", "Result", "Found"])


def failed_checks(prediction: Prediction) -> int:
    return sum(not check.passed for check in prediction.checks)


def checks_summary(prediction: Prediction) -> str:
    failed, made = failed_checks(prediction), len(prediction.checks)
    return (
        f"{failed} of {count(made, 'image check')} ask for a second look"
        if failed
        else f"All {made} image checks passed"
    )


def run_row(record: RunRecord, meta: ModelMeta) -> dict[str, Any]:
    return {
        "Run": escape(record.run),
        "Finished": moment(record.finished_at),
        "Hospitals": len(meta.datasets),
        "Scans": sum(stats.total for stats in meta.datasets.values()),
        "Rounds": meta.num_epochs,
        "Test accuracy (95 %)": with_interval(meta.metrics.test, "accuracy"),
        "Macro F1": meta.metrics.test.macro_f1,
        "Data": "synthetic" if record.synthetic else "real scans",
        "Hospitals were": record.transport,
    }


def runs(found: Iterable[tuple[RunRecord, ModelMeta]]) -> Styler:
    return style([run_row(record, meta) for record, meta in found], fractions=["Macro F1"])
