"""No group is in two splits, ratios are met as closely as groups allow, and shared groups have one owner."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scans import hospital

from medisync.config import SplitConfig
from medisync.data import splits
from medisync.errors import DataError
from medisync.schemas import LABELS, SPLITS, AuditedImage, AuditRecord, HospitalAudit, SplitRecord

NAMES = ("North", "South")
HOSPITALS = [hospital(name, name.lower()) for name in NAMES]


def image(number: int, group: int, label: str = "glioma", name: str = "North", status: str = "ok") -> AuditedImage:
    path = f"{name.lower()}/{label}/{number}.png"
    return AuditedImage(hospital=name, path=path, label=label, group=group, status=status, sha256=path)  # type: ignore[arg-type]


def audited(images: list[AuditedImage]) -> AuditRecord:
    found = {name: Counter(i.label for i in images if i.hospital == name and i.status == "ok") for name in NAMES}
    empty = {"path": "", "folders": [], "unresolved": 0, "unreadable": 0, "quarantined": 0, "skipped": {}, "sizes": {}}
    empty |= {"modes": {}, "patients": 0, "exact_copies": 0, "near_copies": 0, "notes": []}
    hospitals = {
        name: HospitalAudit(total=counts.total(), class_distribution={x: counts[x] for x in LABELS}, **empty)
        for name, counts in found.items()
    }
    return AuditRecord(synthetic=True, hospitals=hospitals, overlaps=[], examples=[], conflicts=[], images=images)


def split(images: list[AuditedImage], **settings: object) -> SplitRecord:
    return splits.split(audited(images), SplitConfig(**settings), HOSPITALS)  # type: ignore[arg-type]


def one_each(name: str, first: int = 1000) -> list[AuditedImage]:
    """Returns enough images for a hospital to take part."""
    return [image(first + k, first + k, "pituitary", name) for k in range(10)]


def sizes(record: SplitRecord, name: str = "North", label: str = "glioma") -> dict[str, int]:
    return {part: sum(i.label == label for i in getattr(record.hospitals[name], part)) for part in SPLITS}


def splits_by_group(record: SplitRecord) -> dict[int, set[str]]:
    names: dict[int, set[str]] = {}
    for parts in record.hospitals.values():
        for part in SPLITS:
            for each in getattr(parts, part):
                names.setdefault(each.group, set()).add(part)
    return names


images_of_groups = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["glioma", "meningioma", "notumor"]), st.sampled_from(NAMES)),
    max_size=80,
)


@given(images_of_groups, st.integers(0, 5), st.sampled_from(["one-owner", "keep", "report"]))
def test_no_group_is_ever_in_two_splits(drawn: list[tuple[int, str, str]], seed: int, mode: str) -> None:
    images = [image(k, group, label, name) for k, (group, label, name) in enumerate(drawn)]
    record = split([*images, *one_each("North"), *one_each("South", 2000)], seed=seed, cross_hospital_duplicates=mode)
    assert all(len(parts) == 1 for parts in splits_by_group(record).values())
    splits.require_no_leak(record)
    assigned = sum(len(getattr(parts, part)) for parts in record.hospitals.values() for part in SPLITS)
    assert assigned == len(images) + 20 if mode != "one-owner" else assigned <= len(images) + 20


def test_ratios_hold_per_hospital_and_class() -> None:
    images = [image(k, k, label, name) for name in NAMES for label in ("glioma", "meningioma") for k in range(100)]
    images = [i.model_copy(update={"group": n}) for n, i in enumerate(images)]
    record = split(images, val_ratio=0.2, test_ratio=0.1)
    for name in NAMES:
        for label in ("glioma", "meningioma"):
            assert sizes(record, name, label) == {"train": 70, "val": 20, "test": 10}


def test_ratios_count_images_where_groups_differ_in_size() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), generator.integers(1, 12, 60))
    record = split([*(image(k, int(g)) for k, g in enumerate(groups)), *one_each("South")])
    for part, ratio in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert sizes(record)[part] / len(groups) == pytest.approx(ratio, abs=0.03)


def test_the_seed_determines_the_split() -> None:
    images = [*(image(k, k) for k in range(40)), *one_each("South")]
    assert split(images, seed=1) == split(images, seed=1)
    assert split(images, seed=1).hospitals != split(images, seed=2).hospitals


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (1, {"train": 1, "val": 0, "test": 0}),
        (2, {"train": 1, "val": 0, "test": 1}),
        (3, {"train": 1, "val": 1, "test": 1}),
    ],
)
def test_a_class_of_few_groups_is_assigned_and_noted(groups: int, expected: dict[str, int]) -> None:
    images = [image(k, k, "meningioma") for k in range(groups)]
    record = split([*images, *one_each("North"), *one_each("South", 2000)])
    assert sizes(record, label="meningioma") == expected
    notes = [note for note in record.notes if "meningioma" in note]
    assert len(notes) == (groups < 3)


def test_a_shared_group_has_one_owner_and_hospitals_are_balanced() -> None:
    shared = [image(k, k, name=name) for name in NAMES for k in range(40)]
    record = split(shared)
    counts = {name: sum(sizes(record, name).values()) for name in NAMES}
    assert counts == {"North": 20, "South": 20}
    groups = [{i.group for part in SPLITS for i in getattr(record.hospitals[name], part)} for name in NAMES]
    assert not groups[0] & groups[1]
    assert "20 of 40 images of North are left to the hospital that owns their group" in record.notes


def test_a_kept_shared_group_is_in_the_same_split_of_both_hospitals() -> None:
    shared = [image(k, k, name=name) for name in NAMES for k in range(40)]
    record = split(shared, cross_hospital_duplicates="keep")
    assert sum(sizes(record, "North").values()) == sum(sizes(record, "South").values()) == 40
    assert all(len(parts) == 1 for parts in splits_by_group(record).values())


def test_only_usable_images_take_part() -> None:
    images = [*(image(k, k) for k in range(9)), image(9, 9, status="quarantined"), *one_each("South")]
    assert sum(sizes(split(images)).values()) == 9


def test_a_hospital_left_without_images_is_named() -> None:
    with pytest.raises(DataError, match="South: no training image after the split"):
        split([image(k, k) for k in range(9)])


def test_a_leak_is_refused() -> None:
    record = split([*(image(k, k) for k in range(30)), *one_each("South")])
    north = record.hospitals["North"]
    leaked = north.model_copy(update={"test": [*north.test, north.train[0].model_copy(update={"sha256": "other"})]})
    with pytest.raises(DataError, match=f"leak: group {north.train[0].group} is in the splits test and train"):
        splits.require_no_leak(record.model_copy(update={"hospitals": {**record.hospitals, "North": leaked}}))


def test_the_same_bytes_in_two_splits_are_refused() -> None:
    record = split([*(image(k, k) for k in range(30)), *one_each("South")])
    north = record.hospitals["North"]
    twin = north.train[0].model_copy(update={"group": 999})
    leaked = north.model_copy(update={"val": [*north.val, twin]})
    with pytest.raises(DataError, match=r"leak: image with SHA-256 .* is in the splits train and val"):
        splits.require_no_leak(record.model_copy(update={"hospitals": {**record.hospitals, "North": leaked}}))


def test_dataset_stats_count_used_and_usable_images() -> None:
    images = [image(k, k, name=name) for name in NAMES for k in range(40)]
    record = split(images)
    stats = splits.dataset_stats(record, audited(images), HOSPITALS)
    assert stats["North"].found["glioma"] == 40
    assert stats["North"].class_distribution == {"glioma": 20, "meningioma": 0, "pituitary": 0, "notumor": 0}
    assert stats["North"].total == 20
    assert sum(counts["glioma"] for counts in stats["North"].splits.values()) == 20
