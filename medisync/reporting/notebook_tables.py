"""Outcomes as pandas tables: what the notebook shows. Fractions are shown in percent."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from medisync.schemas import (
    LABELS,
    SPLITS,
    AuditRecord,
    BaselineModel,
    BaselineRecord,
    HistoryEntry,
    HospitalAudit,
    Metrics,
    SplitRecord,
)


def folders(record: AuditRecord) -> pd.DataFrame:
    """One row per folder that holds images, with what its name means to its hospital."""
    rows = [
        {"hospital": name, "folder": folder.name, "label": folder.label or "unresolved", "images": folder.images}
        for name, hospital in record.hospitals.items()
        for folder in hospital.folders
    ]
    return pd.DataFrame(rows, columns=["hospital", "folder", "label", "images"]).set_index("hospital")


def audit(record: AuditRecord) -> pd.DataFrame:
    """One column per hospital: images per class, what was left out, copies."""
    return pd.DataFrame({name: _audit_figures(hospital) for name, hospital in record.hospitals.items()})


def _audit_figures(hospital: HospitalAudit) -> dict[str, object]:
    return {
        **{str(label): count for label, count in hospital.class_distribution.items()},
        "usable": hospital.total,
        "unresolved": hospital.unresolved,
        "unreadable": hospital.unreadable,
        "quarantined": hospital.quarantined,
        "no images": sum(hospital.skipped.values()),
        "exact copies": hospital.exact_copies,
        "near copies": hospital.near_copies,
        "patient ids": hospital.patients,
        "most frequent size": next(iter(hospital.sizes), "none"),
        "modes": ", ".join(f"{mode} {count}" for mode, count in hospital.modes.items()),
    }


def overlaps(record: AuditRecord) -> pd.DataFrame:
    """Images of the hospital in the row that show a slice which the hospital in the column has too."""
    names = list(record.hospitals)
    table = pd.DataFrame(0, pd.Index(names, name="hospital"), pd.Index(names, name="shares with"))
    for overlap in record.overlaps:
        table.loc[overlap.hospital, overlap.other] = overlap.images
    return table


def left_out(record: AuditRecord) -> pd.DataFrame:
    """The files that do not take part, except those in unresolved folders, and why."""
    rows = [
        {"file": image.path, "status": image.status, "reason": image.reason}
        for image in record.images
        if image.status in ("unreadable", "quarantined")
    ]
    return pd.DataFrame(rows, columns=["file", "status", "reason"]).set_index("file")


def splits(record: SplitRecord) -> pd.DataFrame:
    """Images per hospital, split and class."""
    counts = {
        (name, part): Counter(image.label for image in getattr(split, part))
        for name, split in record.hospitals.items()
        for part in SPLITS
    }
    table = pd.DataFrame(
        [[counted[label] for label in LABELS] for counted in counts.values()],
        pd.MultiIndex.from_tuples(counts, names=["hospital", "split"]),
        list(LABELS),
    )
    return table.assign(images=table.sum(axis=1))


def history(entries: Sequence[HistoryEntry], best_round: int) -> pd.DataFrame:
    """One row per round that was validated, or that somebody was refused in; validation accuracy of the global model, for all
    hospitals and for each.
    """
    told = [entry for entry in entries if entry.val_loss is not None or entry.refused]
    table = pd.DataFrame(map(_round, told), index=pd.Index([entry.epoch for entry in told], name="round"))
    table["best"] = ["*" if entry.epoch == best_round else "" for entry in told]
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


def metrics(test: Metrics, hospitals: Mapping[str, Metrics]) -> pd.DataFrame:
    """The global model on the test split: all hospitals together, then each."""
    rows = {"all hospitals": test, **hospitals}
    return pd.DataFrame({name: _figures(scores) for name, scores in rows.items()}).T


def _figures(scores: Metrics) -> dict[str, object]:
    return {
        "images": scores.n,
        "accuracy": _with_interval(scores, "accuracy"),
        "balanced accuracy": _with_interval(scores, "balanced_accuracy"),
        "macro F1": _with_interval(scores, "macro_f1"),
        "macro AUC": _with_interval(scores, "macro_auc"),
        "ECE": percent(scores.ece),
        "Brier": "undefined" if scores.brier is None else f"{scores.brier:.3f}",
        "90 % sets": _sets(scores),
    }


def _sets(scores: Metrics) -> str:
    if scores.coverage is None or scores.set_size is None:
        return "undefined"
    return f"hold the truth in {percent(scores.coverage)}, {scores.set_size:.1f} classes"


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
            "AUC": percent(figures.auc),
            "images": figures.support,
        }
        for label, figures in scores.per_class.items()
    }
    return pd.DataFrame(rows).T


def confusion(scores: Metrics) -> pd.DataFrame:
    """Images by true label (rows) and predicted label (columns)."""
    rows, columns = pd.Index(LABELS, name="true"), pd.Index(LABELS, name="predicted")
    return pd.DataFrame(scores.confusion_matrix, rows, columns)


def baselines(record: BaselineRecord) -> pd.DataFrame:
    """Test accuracy of every model at every hospital: a model trained in the row, tested in the column."""
    rows = {_trained(each.kind, each.trained_at): _accuracies(each) for each in record.models}
    return pd.DataFrame(rows).T


def _accuracies(each: BaselineModel) -> dict[str, str]:
    places = {"all hospitals": each.test, **each.hospitals}
    return {name: _with_interval(scores, "accuracy") for name, scores in places.items()}


def _trained(kind: str, hospitals: list[str]) -> str:
    return kind if kind in ("federated", "pooled") else f"{kind}: {', '.join(hospitals)}"


def differences(record: BaselineRecord) -> pd.DataFrame:
    """Federated minus each other model, on the same images, in percentage points."""
    rows = [
        {
            "federated minus": _trained(each.kind, each.trained_at),
            "test images of": each.hospital,
            "points": f"{100 * each.difference:+.1f} ({100 * each.low:+.1f} to {100 * each.high:+.1f})",
            "McNemar p": f"{each.mcnemar_p:.3f}",
        }
        for each in record.differences
    ]
    columns = ["federated minus", "test images of", "points", "McNemar p"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2])


def percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"
