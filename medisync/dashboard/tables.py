"""Records -> the tables and headline figures that pages show; no streamlit, no torch.

Tables are pandas Stylers, so that numbers stay numbers and an undefined one is a dash, never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from medisync.dashboard.words import (
    CLASS_NAMES,
    NO_VALUE,
    count,
    duration,
    escape,
    interval,
    moment,
    percent,
    plain,
    sentence,
)
from medisync.records import (
    LABELS,
    SPLITS,
    AuditRecord,
    DatasetStats,
    HistoryEntry,
    Metrics,
    ModelMeta,
    Prediction,
    Progress,
    RunRecord,
)


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
    """What a run is, in two sentences of Markdown."""
    images = sum(stats.total for stats in meta.datasets.values())
    return (
        f"One ResNet18, trained by federated averaging across **{count(len(meta.datasets), 'hospital')}** on "
        f"**{count(images, 'scan')}** ({meta.image_size} × {meta.image_size} pixels, {meta.device.upper()}). "
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
        [_hospital_row(name, stats, meta.metrics.hospitals.get(name)) for name, stats in meta.datasets.items()],
        fractions=["Test accuracy"],
    )


def _hospital_row(name: str, stats: DatasetStats, metrics: Metrics | None) -> dict[str, Any]:
    missing = _lacking(stats)
    split = {part: sum(stats.splits.get(part, {}).values()) if stats.splits else None for part in SPLITS}
    return {
        "Hospital": escape(name),
        "Specialty": escape(stats.specialty) or NO_VALUE,
        "Found": sum(stats.found.values()) if stats.found else None,
        "Used": stats.total,
        "Train": split["train"],
        "Val": split["val"],
        "Test": split["test"],
        "Lacks": ", ".join(missing) or NO_VALUE,
        "Test accuracy": metrics.accuracy if metrics else None,
        "95 % interval": (interval(metrics.intervals.get("accuracy")) if metrics else "") or NO_VALUE,
    }


def _lacking(stats: DatasetStats) -> list[str]:
    return [CLASS_NAMES[label] for label in LABELS if not stats.class_distribution.get(label)]


def hospital_summary(name: str, stats: DatasetStats) -> str:
    """Who this is and what it lacks, as Markdown."""
    missing = _lacking(stats)
    lacks = f" It has no scan of the class {' or '.join(missing).lower()}." if missing else ""
    return f"**{escape(name)}** (simulated){f', {escape(stats.specialty)}' if stats.specialty else ''}.{lacks}"


def hospital_headlines(stats: DatasetStats, metrics: Metrics) -> list[Headline]:
    found = sum(stats.found.values()) if stats.found else stats.total
    given = f"{found - stats.total:,} of those found belong to another hospital, which has the same slices."
    return [
        Headline("Scans found", f"{found:,}", help="Usable ones, before slices that several have got one owner."),
        Headline("Scans used", f"{stats.total:,}", help=given),
        *headlines(metrics)[:2],
        Headline("Calibration error", percent(metrics.ece), help="Mean gap between confidence and accuracy here."),
    ]


LEVELS = ("INFO", "WARNING", "ERROR")


def log_lines(text: str) -> list[tuple[str, str, str]]:
    """The lines of a log as (time, level, message); a line without level goes with the one before."""
    rows: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        day, clock, level, message = (line.split(" ", 3) + [""] * 4)[:4]
        if level in LEVELS:
            rows.append((f"{day} {clock.partition(',')[0]}", level, plain(message, 500)))
        elif rows:
            rows[-1] = (*rows[-1][:2], f"{rows[-1][2]} {plain(line, 500)}")
    return rows


def log_table(rows: Sequence[tuple[str, str, str]], least: str, wanted: str) -> pd.DataFrame:
    """Those of a level or a graver one that hold `wanted`, whatever the case."""
    kept = [
        row for row in rows if LEVELS.index(row[1]) >= LEVELS.index(least) and wanted.lower() in " ".join(row).lower()
    ]
    return pd.DataFrame(kept, columns=["Time", "Level", "Message"])


def audit_headlines(audit: AuditRecord) -> list[Headline]:
    found = audit.hospitals.values()
    figures = [
        ("Usable", sum(h.total for h in found), "Scans that can be decoded and whose class is known."),
        ("Unresolved", sum(h.unresolved for h in found), "Scans in folders that no class map names: left out."),
        ("Unreadable", sum(h.unreadable for h in found), "Files that claim to be images and are not: left out."),
        ("Quarantined", sum(h.quarantined for h in found), "The same slice under two labels: all copies left out."),
        ("Copies", sum(h.exact_copies + h.near_copies for h in found), "Repeats of a slice inside one hospital."),
    ]
    return [Headline(label, f"{number:,}", help=text) for label, number, text in figures]


def audit_hospitals(audit: AuditRecord) -> Styler:
    return style(
        {
            "Hospital": escape(name),
            "Usable": found.total,
            "Unresolved": found.unresolved,
            "Unreadable": found.unreadable,
            "Quarantined": found.quarantined,
            "No image": sum(found.skipped.values()),
            "Exact copies": found.exact_copies,
            "Near copies": found.near_copies,
            "Patients known": found.patients or None,
        }
        for name, found in audit.hospitals.items()
    )


def folders(audit: AuditRecord) -> Styler:
    """Every folder and the class it stands for; unresolved ones first."""
    rows = [
        {
            "Hospital": escape(name),
            "Folder": escape(folder.name),
            "Class": CLASS_NAMES[folder.label] if folder.label else "unresolved, left out",
            "Images": folder.images,
        }
        for name, found in audit.hospitals.items()
        for folder in sorted(found.folders, key=lambda folder: folder.label is not None)
    ]
    return style(rows, ["Hospital", "Folder", "Class", "Images"])


def notes(audit: AuditRecord) -> list[tuple[str, str]]:
    """(hospital, note), as Markdown."""
    return [(escape(name), sentence(note)) for name, found in audit.hospitals.items() for note in found.notes]


def left_out(audit: AuditRecord) -> pd.DataFrame:
    """Every image that the run could not use, with the reason; plain text, for a grid that reads no Markdown."""
    rows = [
        (plain(image.hospital), plain(image.path), image.status, plain(image.reason))
        for image in audit.images
        if image.status != "ok"
    ]
    return pd.DataFrame(rows, columns=["Hospital", "File", "Status", "Reason"])


def copies(audit: AuditRecord) -> pd.DataFrame:
    """Some pairs that show one slice."""
    rows = [
        (plain(pair.first), plain(pair.second), round(pair.correlation, 4), "yes" if pair.mirrored else "no")
        for pair in audit.examples
    ]
    return pd.DataFrame(rows, columns=["First", "Second", "Correlation", "Mirrored"])


def refusals(history: Sequence[HistoryEntry]) -> list[str]:
    """One line of Markdown per update that did not enter the average."""
    return [
        f"**Round {entry.epoch}, {escape(refusal.hospital)}:** {escape(refusal.reason)}"
        for entry in history
        for refusal in entry.refused
    ]


def remarks(history: Sequence[HistoryEntry]) -> list[str]:
    """One line of Markdown per thing that was odd about an update that did enter the average."""
    return [
        f"**Round {entry.epoch}, {escape(remark.hospital)}:** {escape(remark.reason)}"
        for entry in history
        for remark in entry.remarks
    ]


def training_headlines(history: Sequence[HistoryEntry], meta: ModelMeta) -> list[Headline]:
    seconds = sum(entry.seconds for entry in history)
    return [
        Headline("Rounds", f"{len(history)}", help="Global model out, updates back, one average."),
        Headline("Best round", f"{meta.best_epoch}", help="Chosen on validation scans; test scans had no say."),
        Headline("Best validation accuracy", percent(meta.metrics.best_val_accuracy)),
        Headline("Time in rounds", duration(seconds)),
    ]


def rounds(history: Sequence[HistoryEntry]) -> Styler:
    rows = [
        {
            "Round": entry.epoch,
            "Training loss": entry.train_loss,
            "Training accuracy": entry.train_accuracy,
            "Validation loss": entry.val_loss,
            "Validation accuracy": entry.val_accuracy,
            "Learning rate": entry.learning_rate,
            "Time": duration(entry.seconds),
        }
        for entry in history
    ]
    table = style(rows, fractions=["Training accuracy", "Validation accuracy"])
    table.format("{:.4f}", subset=["Training loss", "Validation loss"], na_rep=NO_VALUE)
    return table.format("{:.2g}", subset=["Learning rate"])


def per_class(metrics: Metrics) -> Styler:
    rows = [
        {
            "Class": CLASS_NAMES[label],
            "Precision": found.precision,
            "Recall (sensitivity)": found.recall,
            "Specificity": found.specificity,
            "F1": found.f1,
            "Scans": found.support,
        }
        for label, found in metrics.per_class.items()
    ]
    return style(rows, fractions=["Precision", "Recall (sensitivity)", "Specificity", "F1"])


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
            "Accuracy": found.accuracy,
            "95 % interval": interval(found.intervals.get("accuracy")) or NO_VALUE,
            "Balanced accuracy": found.balanced_accuracy,
            "Macro F1": found.macro_f1,
            "Calibration error": found.ece,
            "Test scans": found.n,
        }
        for name, found in meta.metrics.hospitals.items()
    ]
    return style(rows, fractions=["Accuracy", "Balanced accuracy", "Macro F1", "Calibration error"])


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
        "Test accuracy": meta.metrics.test_accuracy,
        "95 % interval": interval(meta.metrics.test.intervals.get("accuracy")) or NO_VALUE,
        "Macro F1": meta.metrics.test.macro_f1,
        "Data": "synthetic" if record.synthetic else "real scans",
    }


def runs(found: Iterable[tuple[RunRecord, ModelMeta]]) -> Styler:
    return style([run_row(record, meta) for record, meta in found], fractions=["Test accuracy", "Macro F1"])


def standing(run: str, progress: Progress) -> str:
    """Where a run in progress stands, as Markdown."""
    rate = f", {progress.images_per_second:,.0f} images/s" if progress.images_per_second else ""
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    at = f"round {progress.round} of {progress.rounds}" if progress.rounds else progress.stage
    return f"**{escape(run)}** is training: {at}, {escape(progress.hospital)}{rate}{left}"


def problem(run: str, reason: str, progress: Progress | None) -> str:
    """Why a run cannot be shown, as Markdown."""
    standing = f" ({_standing(progress)})" if progress else ""
    return f"**{escape(run)}:** {escape(reason)}{standing}."


def _standing(progress: Progress) -> str:
    """Where an unfinished run stands, in words."""
    words = f"last seen in {progress.stage}"
    if progress.rounds:
        words += f", round {progress.round} of {progress.rounds}"
    return words + (f", {moment(progress.updated_at)}" if progress.updated_at else "")
