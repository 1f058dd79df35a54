"""Small counts: none of them leaves, and none follows from what does."""

from typing import Any

import pytest
from test_enforcement import introduction

from medisync.network.release import told
from medisync.schemas import FolderAudit, Introduction


def with_audit(known: Introduction, **changes: Any) -> Introduction:
    return known.model_copy(update={"audit": known.audit.model_copy(update=changes)})


def numbers_in(value: Any) -> list[int]:
    """Returns all counts in a record, at any depth."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers_in(part)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


SPARSE = with_audit(
    introduction(patients=4, train={"glioma": 70, "notumor": 9}, val={"glioma": 12, "notumor": 3}),
    sizes={"512x512": 91, "256x256": 3},
    modes={"L": 94},
    skipped={"hidden": 2, "text": 40},
    unreadable=7,
    unresolved=11,
    folders=[FolderAudit(name="notumor", label="notumor", images=12)],
)


def test_no_count_from_1_to_9_leaves() -> None:
    assert min(number for number in numbers_in(told(SPARSE, 10).model_dump()) if number) >= 10


def test_sums_are_those_of_the_counts_that_are_told() -> None:
    """Otherwise a count that is left out would be the difference: 12 scans without a tumour, of which none may be told."""
    found = told(SPARSE, 10)
    assert found.stats.splits == {"train": {"glioma": 70, "notumor": 0}, "val": {"glioma": 12, "notumor": 0}}
    assert found.stats.class_distribution == found.audit.class_distribution == {"glioma": 82, "notumor": 0}
    assert found.stats.total == found.audit.total == 82
    assert found.stats.found == {"glioma": 82, "notumor": 0}
    assert (found.audit.sizes, found.audit.modes, found.audit.skipped) == ({}, {}, {})  # modes would say 94
    assert [folder.images for folder in found.audit.folders] == [82]
    assert (found.audit.patients, found.audit.unreadable, found.audit.unresolved) == (0, 0, 11)


def test_a_note_says_what_is_left_out() -> None:
    (note,) = told(SPARSE, 10).audit.notes
    assert note.startswith("fewer than 10, shown as 0 and left out of all sums: ")
    assert all(name in note for name in ("notumor (train)", "notumor (val)", "patients", "unreadable", "sizes"))
    assert "glioma (train)" not in note


@pytest.mark.parametrize(("known", "shown"), [(5, None), (166, None), (160, 160), (0, 0), (170, 170)])
def test_images_with_a_patient_are_told_if_those_with_and_those_without_are_enough(known: int, shown: int) -> None:
    full = introduction()
    stats = full.stats.model_copy(update={"with_patient": known})
    found = told(with_audit(full.model_copy(update={"stats": stats}), with_patient=known), 10)
    assert found.stats.total == 170
    assert found.stats.with_patient == shown
    if shown is None:
        assert found.audit.with_patient is None


def test_where_all_counts_are_large_enough_nothing_changes() -> None:
    assert told(introduction(), 10) == introduction()
    assert told(SPARSE, 1) == SPARSE


def test_images_with_a_patient_are_not_told_beside_a_total_that_lacks_some() -> None:
    """All 94 images have a patient; beside a total of 82 this would tell the 12 that are left out."""
    stats = SPARSE.stats.model_copy(update={"with_patient": 94})
    found = told(with_audit(SPARSE.model_copy(update={"stats": stats}), with_patient=94), 10)
    assert (found.stats.total, found.stats.with_patient, found.audit.with_patient) == (82, None, None)
