"""Outcomes as pandas tables: what the notebook shows. Fractions are shown in percent."""

import pandas as pd

from medisync.federation.server_app import Outcome
from medisync.records import LABELS, HistoryEntry, Metrics


def history(outcome: Outcome) -> pd.DataFrame:
    """One row per round; validation accuracy of the global model, for all hospitals and for each."""
    rows = [_round(entry) for entry in outcome.history]
    table = pd.DataFrame(rows, index=pd.Index([entry.epoch for entry in outcome.history], name="round"))
    table["best"] = ["*" if entry.epoch == outcome.best_round else "" for entry in outcome.history]
    return table


def _round(entry: HistoryEntry) -> dict[str, object]:
    return {
        "training loss": f"{entry.train_loss:.3f}",
        "validation loss": "undefined" if entry.val_loss is None else f"{entry.val_loss:.3f}",
        "validation accuracy": percent(entry.val_accuracy),
        **{name: percent(scores.val_accuracy) for name, scores in entry.hospitals.items()},
        "refused": ", ".join(refusal.hospital for refusal in entry.refused),
        "seconds": round(entry.seconds, 1),
    }


def metrics(outcome: Outcome) -> pd.DataFrame:
    """The global model on the test split: all hospitals together, then each."""
    rows = {"all hospitals": outcome.test, **outcome.hospitals}
    return pd.DataFrame({name: _figures(scores) for name, scores in rows.items()}).T


def _figures(scores: Metrics) -> dict[str, object]:
    return {
        "images": scores.n,
        "accuracy": _with_interval(scores, "accuracy"),
        "balanced accuracy": _with_interval(scores, "balanced_accuracy"),
        "macro F1": _with_interval(scores, "macro_f1"),
        "ECE": percent(scores.ece),
    }


def _with_interval(scores: Metrics, name: str) -> str:
    interval = scores.intervals.get(name)
    shown = percent(getattr(scores, name))
    return f"{shown} ({100 * interval.low:.1f} to {100 * interval.high:.1f})" if interval else shown


def per_class(scores: Metrics) -> pd.DataFrame:
    """Precision, sensitivity, specificity and F1 of each class, against the rest."""
    rows = {
        label: {
            "precision": percent(figures.precision),
            "sensitivity": percent(figures.recall),
            "specificity": percent(figures.specificity),
            "F1": percent(figures.f1),
            "images": figures.support,
        }
        for label, figures in scores.per_class.items()
    }
    return pd.DataFrame(rows).T


def confusion(scores: Metrics) -> pd.DataFrame:
    """Images by true label (rows) and predicted label (columns)."""
    rows, columns = pd.Index(LABELS, name="true"), pd.Index(LABELS, name="predicted")
    return pd.DataFrame(scores.confusion_matrix, rows, columns)


def percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"
