"""The audit of files with known faults, which the tests put there."""

import os
from pathlib import Path

import numpy as np
import pytest
from scans import hospital, save, texture

from medisync.data import audit
from medisync.errors import DataError
from medisync.phantom.hospitals import write_hospitals
from medisync.phantom.styles import STYLES
from medisync.schemas import AuditRecord

NORTH, SOUTH = hospital("North", "north"), hospital("South", "south")


def run(dataset: Path, *hospitals: object) -> AuditRecord:
    return audit.audit_hospitals(hospitals or (NORTH,), dataset)  # type: ignore[arg-type]


def statuses(record: AuditRecord) -> dict[str, str]:
    return {image.path: image.status for image in record.images}


def slice_of(record: AuditRecord, path: str) -> int | None:
    return next(image.slice for image in record.images if image.path == path)


def group_of(record: AuditRecord, path: str) -> int | None:
    return next(image.group for image in record.images if image.path == path)


def test_every_folder_is_matched_or_listed_as_unresolved(tmp_path: Path) -> None:
    save(tmp_path / "north/Glioma/a.png", texture(1))
    save(tmp_path / "north/no_tumor/b.png", texture(2))
    save(tmp_path / "north/brain_tumor/c.png", texture(3))
    record = run(tmp_path)
    found = record.hospitals["North"]
    assert [(folder.name, folder.label, folder.images) for folder in found.folders] == [
        ("Glioma", "glioma", 1),
        ("brain_tumor", None, 1),
        ("no_tumor", "notumor", 1),
    ]
    assert found.class_distribution == {"glioma": 1, "meningioma": 0, "pituitary": 0, "notumor": 1}
    assert (found.total, found.unresolved) == (2, 1)
    assert statuses(record)["north/brain_tumor/c.png"] == "unresolved"
    (warning,) = (each for each in found.warnings if "brain_tumor" in each)
    assert warning.startswith(
        "folder 'brain_tumor' is not in the class map: 1 image left out; its name does not say which"
    )
    assert "no folder 'meningioma' for the class meningioma" in found.notes


def test_class_folders_are_found_at_any_depth_and_merged_with_a_note(tmp_path: Path) -> None:
    save(tmp_path / "north/Training/glioma/a.png", texture(1))
    save(tmp_path / "north/Testing/GLIOMA/deep/b.png", texture(2))
    found = run(tmp_path).hospitals["North"]
    assert {folder.name: folder.images for folder in found.folders} == {"Training/glioma": 1, "Testing/GLIOMA": 1}
    assert "folders 'Testing/GLIOMA' and 'Training/glioma' are merged as glioma" in found.notes


def test_an_empty_class_folder_is_noted(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/a.png", texture(1))
    (tmp_path / "north/meningioma").mkdir()
    assert "folder 'meningioma' holds no image" in run(tmp_path).hospitals["North"].notes


def test_unreadable_files_are_listed_with_the_reason(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/good.jpg", texture(1))
    whole = (tmp_path / "north/glioma/good.jpg").read_bytes()
    (tmp_path / "north/glioma/half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "north/glioma/empty.jpg").touch()
    (tmp_path / "north/glioma/page.png").write_text("<html></html>")
    save(tmp_path / "north/glioma/black.png", np.zeros((64, 64), np.uint8))
    record = run(tmp_path)
    reasons = {Path(i.path).name: i.reason for i in record.images if i.status == "unreadable"}
    assert reasons.keys() == {"half.jpg", "empty.jpg", "page.png", "black.png"}
    assert "damaged" in reasons["half.jpg"]
    assert reasons["empty.jpg"] == "the file is empty"
    assert "not an image" in reasons["page.png"]
    assert "no content" in reasons["black.png"]
    assert record.hospitals["North"].total == 1
    assert any("half.jpg" in line and "damaged" in line for line in audit.log_lines(record))


def test_files_that_are_not_images_are_counted_by_reason(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/a.png", texture(1))
    (tmp_path / "north/glioma/notes.txt").write_text("hello")
    (tmp_path / "north/glioma/Thumbs.db").touch()
    save(tmp_path / "north/glioma/.ipynb_checkpoints/a.jpg", texture(2))
    (tmp_path / "north/glioma/dangling.png").symlink_to("nowhere.png")
    (tmp_path / "north/glioma/loop").symlink_to("..")
    os.mkfifo(tmp_path / "north/glioma/pipe.png")
    found = run(tmp_path).hospitals["North"]
    assert found.skipped == {
        "not an image (.txt)": 1,
        "hidden or system file": 2,
        "broken link": 1,
        "link to a folder that was already visited": 1,
        "neither a file nor a folder": 1,
    }
    assert found.total == 1


def test_a_file_name_that_is_not_utf8_does_not_stop_the_audit(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/a.png", texture(1))
    (tmp_path / "north/glioma" / os.fsdecode(b"bad-\xff.png")).touch()
    assert run(tmp_path).hospitals["North"].skipped == {"name that is not valid UTF-8": 1}


def test_copies_within_a_hospital_are_one_slice(tmp_path: Path) -> None:
    original = texture(1, 128)
    save(tmp_path / "north/glioma/original.png", original)
    save(tmp_path / "north/glioma/same-pixels.bmp", original)
    save(tmp_path / "north/glioma/mirrored.jpg", original[:, ::-1], quality=60)
    save(tmp_path / "north/glioma/other.png", texture(2, 128))
    record = run(tmp_path)
    found = record.hospitals["North"]
    assert (found.exact_copies, found.near_copies) == (1, 1)
    slices = {Path(image.path).stem: image.slice for image in record.images}
    assert slices["original"] == slices["same-pixels"] == slices["mirrored"] != slices["other"]
    assert {example.mirrored for example in record.examples} == {True}
    assert min(example.correlation for example in record.examples) > 0.98


def test_copies_across_hospitals_are_counted_from_both_sides(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/a.png", texture(1))
    save(tmp_path / "south/glioma/b.jpg", texture(1)[:, ::-1])
    save(tmp_path / "south/glioma/c.jpg", texture(1))
    save(tmp_path / "south/glioma/d.png", texture(2))
    record = run(tmp_path, NORTH, SOUTH)
    overlaps = {(overlap.hospital, overlap.other): overlap.images for overlap in record.overlaps}
    assert overlaps == {("North", "South"): 1, ("South", "North"): 2}


def test_one_slice_under_two_labels_is_quarantined_with_all_its_copies(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/a.png", texture(1))
    save(tmp_path / "south/meningioma/b.png", texture(1))
    save(tmp_path / "south/glioma/c.png", texture(1))
    save(tmp_path / "south/glioma/d.png", texture(2))
    record = run(tmp_path, NORTH, SOUTH)
    assert statuses(record) == {
        "north/glioma/a.png": "quarantined",
        "south/meningioma/b.png": "quarantined",
        "south/glioma/c.png": "quarantined",
        "south/glioma/d.png": "ok",
    }
    (conflict,) = record.conflicts
    assert conflict.labels == ["glioma", "meningioma"]
    assert sorted(conflict.paths) == ["north/glioma/a.png", "south/glioma/c.png", "south/meningioma/b.png"]


def test_slices_of_a_patient_are_different_slices_of_one_group(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        save(tmp_path / f"north/glioma/{seed}.png", texture(seed))
    (tmp_path / "north/patients.csv").write_text("path,patient\nglioma/1.png,P1\nglioma/2.png,P1\nglioma/9.png,P2\n")
    record = run(tmp_path)
    assert group_of(record, "north/glioma/1.png") == group_of(record, "north/glioma/2.png")
    assert slice_of(record, "north/glioma/1.png") != slice_of(record, "north/glioma/2.png")
    assert group_of(record, "north/glioma/3.png") != group_of(record, "north/glioma/1.png")
    found = record.hospitals["North"]
    assert found.patients == 1
    assert found.with_patient == 2
    assert found.warnings == [
        "1 of 3 rows of patients.csv name no image that is here, such as 'glioma/9.png'",
        "the patient list covers 2 of 3 usable images; slices of one patient among the others may be in several splits, "
        "unless they are near-duplicates",
    ]
    assert found.skipped == {}


def test_a_patient_joins_the_copies_of_its_slices_in_another_hospital(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/1.png", texture(1))
    save(tmp_path / "north/glioma/2.png", texture(2))
    save(tmp_path / "south/glioma/copy-of-1.png", texture(1))
    save(tmp_path / "south/glioma/copy-of-2.png", texture(2))
    (tmp_path / "north/patients.csv").write_text("path,patient\nglioma/1.png,P1\nglioma/2.png,P1\n")
    record = run(tmp_path, NORTH, SOUTH)
    assert len({image.group for image in record.images}) == 1


def test_patients_with_the_same_name_at_two_hospitals_are_different(tmp_path: Path) -> None:
    for folder, seed in (("north", 1), ("south", 2)):
        save(tmp_path / folder / "glioma/1.png", texture(seed))
        (tmp_path / folder / "patients.csv").write_text("path,patient\nglioma/1.png,P1\n")
    record = run(tmp_path, NORTH, SOUTH)
    assert len({image.group for image in record.images}) == 2


@pytest.mark.parametrize("content", [b"image,person\na,b\n", b"\xff\xfe\x00path"])
def test_a_list_of_patients_that_cannot_be_read_stops_the_audit(tmp_path: Path, content: bytes) -> None:
    save(tmp_path / "north/glioma/1.png", texture(1))
    (tmp_path / "north/patients.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"patients\.csv: .*expected .*path,patient"):
        run(tmp_path)


def test_a_hospital_without_images_is_refused_with_every_path_tried(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/1.png", texture(1))
    record = run(tmp_path, NORTH, SOUTH)
    with pytest.raises(DataError) as error:
        audit.require_images(record, (NORTH, SOUTH), tmp_path)
    assert f"South: {tmp_path}/south/ with a folder named glioma or meningioma or no tumor" in str(error.value)
    assert "North" not in str(error.value)
    audit.require_images(run(tmp_path), (NORTH,), tmp_path)


def test_sizes_and_modes_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "north/glioma/1.png", texture(1, 64))
    save(tmp_path / "north/glioma/2.png", texture(2, 64))
    save(tmp_path / "north/glioma/3.png", np.repeat(texture(3, 80)[..., None], 3, axis=2))
    found = run(tmp_path).hospitals["North"]
    assert found.sizes == {"64x64": 2, "80x80": 1}
    assert found.modes == {"L": 2, "RGB": 1}


def test_the_audit_finds_the_faults_planted_by_the_phantom(tmp_path: Path) -> None:
    planted = write_hospitals(tmp_path, seed=3, scale=0.05)
    maps = {name: {f: label for f, (label, _) in style.folders.items()} for name, style in STYLES.items()}
    hospitals = [hospital(name, STYLES[name].root, class_map) for name, class_map in maps.items()]
    record = run(tmp_path, *hospitals)
    assert record.synthetic
    status = statuses(record)
    assert status[planted.truncated] == status[planted.not_image] == "unreadable"
    assert {path for path, value in status.items() if value == "unresolved"} == set(planted.unmapped)
    assert {path for path, value in status.items() if value == "quarantined"} == set(planted.conflicts[0])
    for copy in planted.copies:
        assert slice_of(record, copy.path) == slice_of(record, copy.source)


def test_files_are_audited_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    fingerprint_file = audit.fingerprint_file
    monkeypatch.setattr(audit, "fingerprint_file", lambda path: (opened.append(path), fingerprint_file(path))[1])
    scans, cache = tmp_path / "scans", tmp_path / "cache"
    for number in range(3):
        save(scans / f"north/glioma/{number}.png", texture(number))

    def again(*hospitals: object) -> tuple[AuditRecord, int]:
        opened.clear()
        return audit.audit_hospitals(hospitals or (NORTH,), scans, cache), len(opened)  # type: ignore[arg-type]

    first, files = again()
    assert files == 3
    assert again() == (first, 0)
    assert first == run(scans)

    times = (scans / "north/glioma/0.png").stat()
    save(scans / "north/glioma/0.png", texture(1))  # now a copy of another image
    os.utime(scans / "north/glioma/0.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    changed, files = again()
    assert files == 3
    assert changed == run(scans) != first

    (scans / "north/patients.csv").write_text("path,patient\nglioma/1.png,7\nglioma/2.png,7\n")
    assert again()[0] == run(scans) != changed
    assert again()[1] == 0
    (stored,) = cache.iterdir()
    stored.write_bytes(stored.read_bytes()[:-9])
    assert again() == (run(scans), 3)
