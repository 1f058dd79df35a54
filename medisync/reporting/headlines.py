"""Headline figures: single values with a label, an interval and a help text, from records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medisync.reporting.formatting import NO_VALUE, duration, interval, number, percent, plain
from medisync.schemas import AuditRecord, DatasetStats, HistoryEntry, Metrics, ModelMeta


@dataclass(frozen=True)
class Headline:
    """One figure that stands alone: its name, its value as text, its 95 % interval, a help text and where it was found."""

    label: str
    value: str
    interval: str = ""
    help: str = ""
    where: str = ""


ECE_HELP = "Expected calibration error (ECE): the mean gap between confidence and accuracy. 0 % is perfect."


def test_metrics(metrics: Metrics, hospitals: Mapping[str, Metrics]) -> list[Headline]:
    """Returns the main metrics of a set of test scans.

    Of several hospitals' scans, the lowest accuracy of one of `hospitals` takes the place of the macro F1: a mean hides the
    hospital where the model is worst.
    """
    names = [
        ("accuracy", "Accuracy", "Fraction of scans that were given the right class."),
        ("balanced_accuracy", "Balanced accuracy", "Mean sensitivity over the classes: every class counts equally."),
        ("macro_f1", "Macro F1", "Mean F1 score over the classes."),
    ]
    figures = [
        Headline(label, percent(getattr(metrics, name)), interval(metrics.intervals.get(name)), text)
        for name, label, text in names
    ]
    accuracy, balanced, f1 = figures
    error = Headline("Calibration error", percent(metrics.ece), help=ECE_HELP)
    found = lowest_accuracy(hospitals)
    return [accuracy, _lowest(*found), balanced, error] if found else [accuracy, balanced, f1, error]


def _lowest(name: str, metrics: Metrics) -> Headline:
    between, text = interval(metrics.intervals.get("accuracy")), "Of the hospitals, each on its own test scans."
    return Headline("Lowest accuracy", percent(metrics.accuracy), between, text, plain(name, 40))


def lowest_accuracy(hospitals: Mapping[str, Metrics]) -> tuple[str, Metrics] | None:
    """Returns the hospital where the model is least accurate, with its metrics; None if fewer than two have test scans."""
    known = [(name, found) for name, found in hospitals.items() if found.accuracy is not None]
    return min(known, key=lambda each: each[1].accuracy or 0.0) if len(known) > 1 else None


def lowest_in_words(hospitals: Mapping[str, Metrics]) -> str:
    """Returns `74.2 % at Tata Memorial Mumbai`; a dash for fewer than two hospitals."""
    found = lowest_accuracy(hospitals)
    return f"{percent(found[1].accuracy)} at {plain(found[0], 60)}" if found else NO_VALUE


def hospital(stats: DatasetStats, metrics: Metrics) -> list[Headline]:
    """Returns one hospital's scans found and used, and the global model's metrics on its test scans."""
    found = sum(stats.found.values()) if stats.found else stats.total
    used = f"{number(found - stats.total)} of the scans found show slices that were assigned to another hospital."
    accuracy, balanced, _, ece = test_metrics(metrics, {})
    return [
        Headline(
            "Scans found", number(found), help="Usable scans, before shared slices were assigned to one hospital."
        ),
        Headline("Scans used", number(stats.total), help=used),
        accuracy,
        balanced,
        ece,
    ]


def audit(record: AuditRecord) -> list[Headline]:
    """Returns what the audit found at all hospitals together."""
    found = record.hospitals.values()
    figures = [
        ("Usable", sum(h.total for h in found), "Scans that can be decoded and whose class is known."),
        ("Unresolved", sum(h.unresolved for h in found), "Scans in folders that are in no class map. Left out."),
        ("Unreadable", sum(h.unreadable for h in found), "Image files that cannot be decoded. Left out."),
        ("Quarantined", sum(h.quarantined for h in found), "Slices that occur under two labels. All copies left out."),
        ("Copies", sum(h.exact_copies + h.near_copies for h in found), "Repeated slices within one hospital."),
    ]
    return [Headline(label, number(images), help=text) for label, images, text in figures]


def training(history: Sequence[HistoryEntry], meta: ModelMeta) -> list[Headline]:
    """Returns the number of rounds, the selected one, its validation accuracy and the time that the rounds took."""
    rounds = "In each round, hospitals train the global model and the server averages their updates."
    return [
        Headline("Rounds", number(len(history)), help=rounds),
        Headline("Selected round", number(meta.best_epoch), help="The round with the best validation accuracy."),
        Headline("Best validation accuracy", percent(meta.metrics.best_val_accuracy)),
        Headline("Training time", duration(sum(entry.seconds for entry in history)), help="Sum over all rounds."),
    ]
