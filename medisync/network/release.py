"""What a hospital tells of its images: counts from 1 to one less than the smallest that may leave are left out.

A count that is left out must not follow from others: every sum is that of the counts that are told, and whatever could be
compared with a sum that lacks something is left out as well.
"""

from collections.abc import Mapping
from typing import Any

from medisync.schemas import DatasetStats, FolderAudit, HospitalAudit, Introduction

NUMBERS = ("unresolved", "unreadable", "quarantined", "patients", "exact_copies", "near_copies")
"""Counts of the audit that stand alone."""

TABLES = ("skipped", "sizes", "modes")
OF_ALL_IMAGES = ("sizes", "modes")
"""Tables whose cells add up to the number of all images."""


def told(introduction: Introduction, smallest: int) -> Introduction:
    """Returns the introduction with which a hospital registers; a note says what is left out and shown as 0."""
    hidden = _hidden(introduction, smallest)
    if not hidden:
        return introduction
    stats = _stats(introduction.stats, smallest)
    audit = _audit(introduction.audit, stats, smallest)
    note = f"fewer than {smallest}, shown as 0 and left out of all sums: {', '.join(hidden)}"
    told_audit = audit.model_copy(update={"notes": [*audit.notes, note]})
    return introduction.model_copy(update={"stats": stats, "audit": told_audit})


def _hidden(introduction: Introduction, smallest: int) -> list[str]:
    """Returns the names of the counts that are too small."""
    stats, audit = introduction.stats, introduction.audit
    cells = {f"{label} ({split})": n for split, counts in stats.splits.items() for label, n in counts.items()}
    classes = {str(label): n for label, n in {**stats.class_distribution, **audit.class_distribution}.items()}
    unused = {
        f"{label} outside the splits": n - stats.class_distribution.get(label, 0)
        for label, n in audit.class_distribution.items()
    }
    numbers = {name.replace("_", " "): getattr(audit, name) for name in NUMBERS}
    known = {"images without patient": stats.total - (stats.with_patient or 0), "with patient": stats.with_patient or 0}
    small = [name for name, n in {**classes, **cells, **unused, **numbers, **known}.items() if is_small(n, smallest)]
    return small + [name for name in TABLES if any(is_small(n, smallest) for n in getattr(audit, name).values())]


def _stats(stats: DatasetStats, smallest: int) -> DatasetStats:
    splits = {split: _large(counts, smallest) for split, counts in stats.splits.items()}
    used = {label: sum(counts.get(label, 0) for counts in splits.values()) for label in stats.class_distribution}
    if not splits:
        used = _large(stats.class_distribution, smallest)
    left_out = {status: number for status, number in _large(stats.left_out, smallest).items() if number}
    update: dict[str, Any] = {"splits": splits, "class_distribution": used, "found": used, "total": sum(used.values())}
    known = {"with_patient": _part(stats, smallest) if update["total"] == stats.total else None}
    return stats.model_copy(update={**update, **known, "left_out": left_out})


def _audit(audit: HospitalAudit, stats: DatasetStats, smallest: int) -> HospitalAudit:
    """Returns the audit with the counts of `stats`, which nothing in it may contradict."""
    comparable = stats.class_distribution == audit.class_distribution
    shown = [name for name in TABLES if comparable or name not in OF_ALL_IMAGES]
    tables = {name: _table(getattr(audit, name), smallest) if name in shown else {} for name in TABLES}
    return audit.model_copy(
        update={
            **tables,
            **_large({name: getattr(audit, name) for name in NUMBERS}, smallest),
            "class_distribution": stats.class_distribution,
            "total": stats.total,
            "with_patient": stats.with_patient,
            "folders": [FolderAudit(name=k, label=k, images=n) for k, n in stats.class_distribution.items() if n],
        }
    )


def is_small(count: int, smallest: int) -> bool:
    """Returns whether a count must not leave: 0 may, and what is as large as the smallest."""
    return 0 < count < smallest


def _large(counts: Mapping[Any, int], smallest: int) -> dict[Any, int]:
    return {name: 0 if is_small(count, smallest) else count for name, count in counts.items()}


def _table(counts: Mapping[str, int], smallest: int) -> dict[str, int]:
    """Returns the table, or none of it: its cells add up to a number that may be known."""
    return {} if any(is_small(count, smallest) for count in counts.values()) else dict(counts)


def _part(stats: DatasetStats, smallest: int) -> int | None:
    """Returns the number of images whose patient is known, unless it or the number of the others is too small."""
    known = stats.with_patient
    if known is None or is_small(known, smallest) or is_small(stats.total - known, smallest):
        return None
    return known
