"""Which files of a dataset folder are images: by content, in folders of any Unicode form; slices of a patient stay together."""

import unicodedata
from pathlib import Path

import bad_inputs
import numpy as np
import pytest
from bad_inputs import PATIENT_ID, encoded
from scans import hospital, save, texture

from medisync import config
from medisync.data import audit, splits
from medisync.schemas import AuditRecord

NORTH, SOUTH = hospital("North", "north"), hospital("South", "south")


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def dicom(seed: int, **fields: object) -> bytes:
    return bad_inputs.dicom(texture(seed)[None].astype(np.uint16) * 16, **fields)


def run(dataset: Path) -> AuditRecord:
    return audit.audit_hospitals((NORTH,), dataset)


def patients(record: AuditRecord) -> dict[str, str | None]:
    return {Path(image.path).name: image.patient for image in record.images}


def groups(record: AuditRecord) -> dict[str, int | None]:
    return {Path(image.path).name: image.group for image in record.images}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jfif", encoded(texture(1), "JPEG")),
        ("a.JPE", encoded(texture(1), "JPEG")),
        ("photo", encoded(texture(1))),
        ("a.dat", encoded(texture(1), "WEBP")),
        ("a.png", encoded(texture(1), "JPEG")),
        ("IM000001", dicom(1)),
        ("0001.IMA", dicom(1)),
        ("a.dcm", dicom(1)),
        ("a.jpg", dicom(1)),
        ("1.2.840.113619.2.55", dicom(1)),
        ("a.nii", bad_inputs.nifti(texture(1)[..., None])),
    ],
)
def test_an_image_is_known_by_its_content(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path / "north/glioma" / name, data)
    record = run(tmp_path)
    assert [(image.path, image.status) for image in record.images] == [(f"north/glioma/{name}", "ok")]


@pytest.mark.parametrize(
    ("name", "data"),
    [("BMI.txt", b"BMI, height\n" * 9), ("sound", b"RIFF\0\0\0\0WAVEfmt " * 9), ("notes", b"hello"), ("empty", b"")],
)
def test_what_only_begins_like_an_image_is_skipped_and_counted(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path / "north/glioma" / name, data)
    record = run(tmp_path)
    assert record.images == []
    assert record.hospitals["North"].skipped == {f"not an image ({Path(name).suffix or 'no suffix'})": 1}


@pytest.mark.parametrize(
    ("name", "data", "slices"),
    [
        ("a.nii", bad_inputs.nifti(bad_inputs.volume(5)), 5),
        ("a.dcm", bad_inputs.dicom(np.stack([texture(1), texture(2)]).astype(np.uint16) * 16), 2),
    ],
)
def test_a_volume_is_left_out_by_name_and_not_trained_by_one_slice(
    tmp_path: Path, name: str, data: bytes, slices: int
) -> None:
    write(tmp_path / "north/glioma" / name, data)
    save(tmp_path / "north/glioma/b.png", texture(1))
    record = run(tmp_path)
    image = next(image for image in record.images if image.path.endswith(name))
    assert image.status == "unreadable"
    assert image.reason == f"a volume of {slices} slices; datasets take single slices: export them"
    assert "left out: 1 unreadable" in audit.brief(record)


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_folders_are_found_in_either_unicode_form(tmp_path: Path, stored: str, written: str) -> None:
    """A Mac stores decomposed letters; keyboards and notebooks have composed ones."""
    on_disk, typed = (unicodedata.normalize(form, "Hôpital/Méningiome") for form in (stored, written))
    save(tmp_path / on_disk / "é.png", texture(1))
    place, folder = typed.split("/")
    record = audit.audit_hospitals((hospital("Hôpital", place, {folder: "meningioma"}),), tmp_path)
    assert record.hospitals["Hôpital"].class_distribution["meningioma"] == 1
    assert (tmp_path / record.images[0].path).is_file()


@pytest.mark.parametrize("name", ["no‑tumor", "No_Tumor", " no  tumor ", "ＮＯ tumor", "no\N{NO-BREAK SPACE}tumor"])
def test_folder_names_differ_only_in_what_can_be_seen(name: str) -> None:
    assert config.normalise_folder(name) == "no tumor"


def test_slices_of_a_dicom_patient_are_one_group_under_a_number_that_means_nothing(tmp_path: Path) -> None:
    for seed, fields in enumerate(
        [
            {},
            {},
            {"PatientID": "other"},
            {"PatientID": " ", "StudyInstanceUID": "1.2.3"},
            {"PatientID": "", "StudyInstanceUID": "1.2.3"},
        ]
    ):
        write(tmp_path / f"north/{'glioma' if seed % 2 else 'meningioma'}/IM{seed}", dicom(seed, **fields))
    write(tmp_path / "north/glioma/IM5", dicom(5, PatientID=""))
    record = run(tmp_path)
    number, group = patients(record), groups(record)
    assert set(number.values()) == {"dicom-1", "dicom-2", "dicom-3", None}
    for first, second in (("IM0", "IM1"), ("IM3", "IM4")):
        assert number[first] == number[second]
        assert group[first] == group[second]
    assert len(set(group.values())) == 4
    assert number["IM5"] is None
    assert PATIENT_ID not in record.model_dump_json()
    assert record.hospitals["North"].warnings == [
        "DICOM headers name the patient of 5 of 6 usable images; slices of one patient among the others may be in several "
        "splits, unless they are near-duplicates"
    ]


def test_numbers_of_patients_are_of_one_hospital(tmp_path: Path) -> None:
    write(tmp_path / "north/glioma/1", dicom(1))
    write(tmp_path / "south/glioma/2", dicom(2))
    record = audit.audit_hospitals((NORTH, SOUTH), tmp_path)
    assert list(patients(record).values()) == ["dicom-1", "dicom-1"]
    assert len(set(groups(record).values())) == 2


def test_a_list_of_patients_takes_precedence_over_headers_that_all_say_the_same(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"north/glioma/IM{seed}", dicom(seed, PatientID="ANONYMOUS"))
    rows = "path,patient\nglioma/IM0.dcm,P1\nglioma/IM1.dcm,P1\nglioma/IM2.dcm,P2\n"
    (tmp_path / "north/patients.csv").write_text(rows)
    record = run(tmp_path)
    group = groups(record)
    assert group["IM0"] == group["IM1"] != group["IM2"]
    assert set(patients(record).values()) == {"P1", "P2"}


def test_an_image_that_the_list_lacks_joins_the_listed_ones_of_its_dicom_patient(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"north/glioma/IM{seed}", dicom(seed, PatientID="7" if seed else "8"))
    (tmp_path / "north/patients.csv").write_text("path,patient\nglioma/IM0,P0\nglioma/IM1,P1\n")
    group = groups(run(tmp_path))
    assert group["IM1"] == group["IM2"] != group["IM0"]


def test_counts_of_what_is_known_and_left_out_go_with_the_run(tmp_path: Path) -> None:
    for seed in range(6):
        save(tmp_path / f"north/glioma/{seed}.png", texture(seed))
    save(tmp_path / "north/other/7.png", texture(7))
    write(tmp_path / "north/glioma/cut.png", encoded(texture(8))[:200])
    write(tmp_path / "north/glioma/notes.txt", b"hello")
    write(tmp_path / "north/.DS_Store", b"")
    (tmp_path / "north/patients.csv").write_text("path,patient\nglioma\\0.png,P1\nglioma\\1.png,P1\n")
    record = run(tmp_path)
    split = splits.split(record, config.SplitConfig(), [NORTH])
    stats = splits.dataset_stats(split, record, [NORTH])["North"]
    assert (stats.with_patient, sum(stats.found.values())) == (2, 6)
    assert stats.left_out == {"unresolved": 1, "unreadable": 1, "skipped": 1}
    said = audit.brief(record).splitlines()
    assert said[0] == (
        "North: 6 usable images; left out: 1 in no class folder, 1 unreadable, 1 skipped: not an image (.txt)"
    )
    assert said[1] == "warning: North: folder 'other' is not in the class map: 1 image left out"
    assert said[2].startswith("warning: North: the patient list covers 2 of 6 usable images; ")
