"""patients.csv as people write it, matched to the files; what fits no file, or several, is said."""

import unicodedata
from pathlib import Path

import pytest

from medisync.data import patient_list
from medisync.data.patient_list import PatientList
from medisync.errors import DataError

FILES = ("glioma/1.jpg", "glioma/2.jpg", "meningioma/2.jpg", "no tumor/IM0001", "Übersicht/é 1.png")
HEAD = "path,patient\n"
CLASSES = {"glioma", "meningioma", "no tumor"}


def read(root: Path, content: str | bytes, files: tuple[str, ...] = FILES) -> PatientList:
    folder = root / "north"
    folder.mkdir(exist_ok=True)
    (folder / "patients.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return patient_list.read(folder, [root], files, CLASSES)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("glioma\\1.jpg", "glioma/1.jpg"),
        (".\\glioma\\1.jpg", "glioma/1.jpg"),
        ("./glioma//1.jpg", "glioma/1.jpg"),
        (" glioma/1.jpg ", "glioma/1.jpg"),
        ("/glioma/1.jpg", "glioma/1.jpg"),
        ("north/glioma/1.jpg", "glioma/1.jpg"),
        ("dataset/North/glioma/1.jpg", "glioma/1.jpg"),
        ("/srv/data/glioma/1.jpg", "glioma/1.jpg"),
        ("D:\\MRI\\north\\glioma\\1.jpg", "glioma/1.jpg"),
        ("\\\\server\\scans\\glioma\\1.jpg", "glioma/1.jpg"),
        ("Glioma/1.JPG", "glioma/1.jpg"),
        ("glioma/1.png", "glioma/1.jpg"),
        ("glioma/1", "glioma/1.jpg"),
        ("no tumor/IM0001.dcm", "no tumor/IM0001"),
        ("1.jpg", "glioma/1.jpg"),
        ("images/1.jpg", "glioma/1.jpg"),
        ("D:\\export\\Glioma\\1.nii.gz", "glioma/1.jpg"),
        (unicodedata.normalize("NFD", "Übersicht/é 1.png"), "Übersicht/é 1.png"),
    ],
)
def test_a_path_that_can_mean_only_one_file_is_matched(tmp_path: Path, path: str, file: str) -> None:
    found = read(tmp_path, f"{HEAD}{path},P1\n")
    assert found.patients == {file: "P1"}
    assert found.warnings == []


def test_a_file_name_in_the_other_unicode_form_is_matched(tmp_path: Path) -> None:
    stored = unicodedata.normalize("NFD", "Übersicht/é.png")
    assert read(tmp_path, f"{HEAD}Übersicht/é.png,P1\n", (stored,)).patients == {stored: "P1"}


def test_folders_above_the_listed_path_may_be_missing(tmp_path: Path) -> None:
    files = ("Training/glioma/1.jpg", "Testing/glioma/2.jpg")
    assert read(tmp_path, f"{HEAD}glioma/1.jpg,P1\nglioma/2.jpg,P2\n", files).patients == {
        files[0]: "P1",
        files[1]: "P2",
    }


@pytest.mark.parametrize(
    "content",
    [
        "path;patient\r\nglioma/1.jpg;P1\r\n",
        "sep=;\r\npath;patient\r\nglioma/1.jpg;P1\r\n",
        "path\tpatient\nglioma/1.jpg\tP1\n",
        "path|patient\nglioma/1.jpg|P1\n",
        "\ufeffpath,patient\nglioma/1.jpg,P1\n",
        "Path, Patient\nglioma/1.jpg, P1\n",
        '"PATH";"Patient"\n"glioma/1.jpg";"P1"\n',
        "age,patient,path\n40,P1,glioma/1.jpg\n",
        "path,patient,,\nglioma/1.jpg,P1,,\n",
        "path,patient\nglioma/1.jpg,P1,,\n",
        "path,patient\rglioma/1.jpg,P1\r",
        "\npath,patient\n\nglioma/1.jpg,P1\n,\n\n",
        "path,patient\nglioma/1.jpg,P1\nglioma/1.jpg,P1\n",
        "path\tpatient\r\nglioma/1.jpg\tP1\r\n".encode("utf-16"),
        "path,patient\nglioma/1.jpg,P1\n".encode("utf-16-le"),
        "path,patient\nglioma/1.jpg,P1\n".encode("utf-16-be"),
    ],
)
def test_every_way_to_write_the_table_is_read(tmp_path: Path, content: str | bytes) -> None:
    found = read(tmp_path, content)
    assert found.patients == {"glioma/1.jpg": "P1"}
    assert (found.notes, found.warnings) == ([], [])


def test_windows_1252_is_read_with_a_note(tmp_path: Path) -> None:
    found = read(tmp_path, f"{HEAD}Übersicht/é 1.png,P1\n".encode("cp1252"))
    assert found.patients == {"Übersicht/é 1.png": "P1"}
    assert found.notes == ["patients.csv is not UTF-8; it was read as Windows-1252"]


@pytest.mark.parametrize(
    "path",
    [
        "2.jpg",  # in two folders
        "pituitary/1.jpg",  # its folder is not here, and other rows have no folder in front
        "Testing/glioma/1.jpg",
        "meningioma/1.jpg",
        "glioma/11.jpg",
    ],
)
def test_a_path_that_could_mean_another_file_is_not_matched_but_said(tmp_path: Path, path: str) -> None:
    found = read(tmp_path, f"{HEAD}glioma/2.jpg,P1\n{path},P2\n")
    assert found.patients == {"glioma/2.jpg": "P1"}
    (warning,) = found.warnings
    assert warning.startswith("1 of 2 rows of patients.csv ")
    assert repr(path) in warning


def test_two_files_that_differ_in_what_is_ignored_are_not_confused(tmp_path: Path) -> None:
    files = ("glioma/1.jpg", "glioma/1.png", "glioma/A.jpg", "glioma/a.jpg")
    found = read(tmp_path, f"{HEAD}glioma/1.png,P1\nglioma/1.bmp,P2\nglioma/a.jpg,P3\nGLIOMA/a.jpg,P4\n", files)
    assert found.patients == {"glioma/1.png": "P1", "glioma/a.jpg": "P3"}
    assert "2 of 4 rows of patients.csv fit several images" in found.warnings[0]


def test_a_list_of_two_places_is_not_matched_by_the_end_of_its_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 2 rows fits an image"):
        read(tmp_path, f"{HEAD}Training/glioma/1.jpg,P1\nTesting/glioma/2.jpg,P2\n")


def test_a_list_of_another_hospital_is_not_matched(tmp_path: Path) -> None:
    (tmp_path / "south").mkdir()
    with pytest.raises(DataError, match="none of its 1 rows fits an image"):
        read(tmp_path, f"{HEAD}dataset/south/glioma/1.jpg,P1\n")


def test_a_list_that_fits_nothing_stops_with_both_spellings(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, f"{HEAD}scan-a.jpg,P-SECRET\nscan-b.jpg,P2\n")
    said = str(error.value)
    assert said.startswith(f"{tmp_path}/north/patients.csv: none of its 2 rows fits an image")
    assert "'scan-a.jpg'" in said
    assert "'glioma/1.jpg'" in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "found an empty file"),
        ("image,person\na,b\n", "found image,person"),
        ("glioma/1.jpg,Jane Doe\n", "found a first line without these names"),
        (HEAD, "has no row with a path and a patient"),
        (f'{HEAD}"glioma/1.jpg,P1\n', "cannot be read"),
        (b"\xff\xfe\x00path", "not utf-16"),
        (b"path,patient\nglioma/\x81.jpg,P1\n", "expected UTF-8"),
        (f"{HEAD}glioma/1.jpg,P1\nglioma\\1.jpg,P2\n", "lists 'glioma/1.jpg' with 2 different patients"),
    ],
)
def test_a_list_that_cannot_be_trusted_stops_without_quoting_a_patient(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    with pytest.raises(DataError, match=r"patients\.csv: ") as error:
        read(tmp_path, content)
    assert said in str(error.value)
    assert "Jane" not in str(error.value)
    assert "P1" not in str(error.value)


def test_a_broken_link_is_not_an_absent_list(tmp_path: Path) -> None:
    (tmp_path / "north").mkdir()
    (tmp_path / "north/patients.csv").symlink_to("nowhere.csv")
    with pytest.raises(DataError, match="cannot be read"):
        patient_list.read(tmp_path / "north", [tmp_path], FILES, CLASSES)


def test_rows_that_cannot_be_understood_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, f"{HEAD}glioma/1.jpg,P1\nglioma/a, b.jpg,P2\n,P3\nglioma/2.jpg,\n")
    assert found.patients == {"glioma/1.jpg": "P1"}
    assert found.warnings[0].startswith("3 of 4 rows of patients.csv lack a path or a patient")


def test_patient_ids_are_stripped_but_not_merged(tmp_path: Path) -> None:
    found = read(tmp_path, f"{HEAD}glioma/1.jpg, PH 1 \nglioma/2.jpg,ph1\nmeningioma/2.jpg,PH 1\n")
    assert found.patients == {"glioma/1.jpg": "PH 1", "glioma/2.jpg": "ph1", "meningioma/2.jpg": "PH 1"}
    (note,) = found.notes
    assert note.startswith("2 patient ids in patients.csv differ only in case or spaces")
    assert "PH 1" not in note


def test_another_spelling_is_noted_with_an_example(tmp_path: Path) -> None:
    found = read(tmp_path, f"{HEAD}glioma\\1.jpg,P1\nglioma\\2.jpg,P1\n")
    assert found.notes == ["patients.csv spells 2 paths in another way, such as 'glioma\\\\1.jpg' for 'glioma/1.jpg'"]


@pytest.mark.parametrize(
    "name",
    [
        "Patients.CSV",
        "patient.csv",
        "patients.csv.txt",
        "patients.xlsx",
        "patients",
        "../patients.csv",
        "glioma/patients.tsv",
    ],
)
def test_a_list_under_another_name_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "north/glioma").mkdir(parents=True)
    (tmp_path / "north" / name).write_text(HEAD)
    found = patient_list.read(tmp_path / "north", [tmp_path], FILES, CLASSES)
    assert found.warnings == [f"found {name!r}, which is not read; expected 'patients.csv' in the folder 'north'"]


def test_images_of_patients_are_no_lists(tmp_path: Path) -> None:
    (tmp_path / "north/patient 1").mkdir(parents=True)
    (tmp_path / "north/patient 1/patient.png").touch()
    assert patient_list.read(tmp_path / "north", [tmp_path], FILES, CLASSES) == PatientList({}, (), [])
