"""From an export to a dataset: what is taken, what is left out and why, and that nothing is written half or twice."""

import csv
import hashlib
import hmac
import io
import multiprocessing
import shutil
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torture
from exports import FLAIR, T1, T1C, T2, image, uid, write_labels, write_series
from PIL import Image
from rewrapped import dicom
from scans import CLASS_MAP, hospital

from medisync.data.discovery import discover
from medisync.errors import ConfigError, DataError
from medisync.imaging.decoding import decode
from medisync.ingest import dataset, pseudonyms
from medisync.ingest.dataset import Staging
from medisync.ingest.ingestion import Request, ingest
from medisync.ingest.pseudonyms import Pseudonyms
from medisync.ingest.report import Outcome

KEY = Pseudonyms(bytes(32))


def request(root: Path) -> Request:
    return Request(root / "export", root / "labels.csv", root / "dataset/north")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def report(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(request(root).report.read_text())))


def reasons(outcome: Outcome) -> dict[str, int]:
    return dict(Counter(each.kind for each in outcome.rejected.values()))


def pixels(*slices: tuple[int, int, int], **fields: object) -> set[bytes]:
    """Returns what the slices of study, series and number show, as imaging draws them."""
    return {decode(image(*each, **fields)).pixels.tobytes() for each in slices}


def drawn(root: Path, pattern: str = "*/*.png") -> set[bytes]:
    return {np.asarray(Image.open(file)).tobytes() for file in request(root).to.glob(pattern)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An export of two patients, with labels."""
    write_series(tmp_path / "export/A/1", 1, 1, 6, T1)
    write_series(tmp_path / "export/A/1", 1, 2, 6, T2)
    write_series(tmp_path / "export/B", 2, 1, 3, FLAIR)
    write_labels(tmp_path / "labels.csv", (uid(1), "Glioma"), (uid(2), "notumor"))
    return tmp_path


def test_the_middle_third_of_each_series_becomes_png_in_class_folders(root: Path) -> None:
    outcome = ingest(request(root), KEY)
    assert outcome.added == {"glioma": 4, "notumor": 1}
    assert drawn(root, "glioma/t1-*.png") == pixels((1, 1, 3), (1, 1, 4))
    assert drawn(root, "glioma/t2-*.png") == pixels((1, 2, 3), (1, 2, 4))
    assert drawn(root, "notumor/flair-*.png") == pixels((2, 1, 2))
    assert (outcome.files, outcome.used, outcome.patients) == (15, 5, 2)
    assert reasons(outcome) == {"slice of the outer two thirds": 10}


def test_the_dataset_is_one_that_a_hospital_reads(root: Path) -> None:
    ingest(request(root), KEY)
    found = discover(hospital("North", "north", {**CLASS_MAP, "notumor": "notumor"}), root / "dataset")
    assert Counter(file.label for file in found.files) == {"glioma": 4, "notumor": 1}
    assert Counter(file.patient for file in found.files) == {
        f"p{KEY.name('patient', 'header', 'patient-1')}": 4,
        f"p{KEY.name('patient', 'header', 'patient-2')}": 1,
    }
    assert found.warnings == []


def test_slices_with_the_lesion_are_taken_where_the_table_says(root: Path) -> None:
    columns = "series,label,first,last"
    write_labels(root / "labels.csv", (uid(1, 1), "glioma", 1, 2), (uid(1, 1), "glioma", 6, 6), columns=columns)
    outcome = ingest(request(root), KEY)
    assert drawn(root) == pixels((1, 1, 1), (1, 1, 2), (1, 1, 6))
    assert reasons(outcome) == {
        "slice without lesion, as the table says": 3,
        "image without label in the table": 9,
    }


def test_a_range_that_no_slice_has_is_set_aside(root: Path) -> None:
    write_labels(
        root / "labels.csv",
        (uid(1, 1), "glioma", 50, 60),
        (uid(2, 1), "notumor", "", ""),
        columns="series,label,first,last",
    )
    outcome = ingest(request(root), KEY)
    assert [(each.line, each.reason) for each in outcome.problems] == [(2, "gives slices that are not in the folder")]
    assert outcome.added == {"notumor": 1}


def test_slices_are_in_spatial_order_whatever_their_numbers_and_names(tmp_path: Path) -> None:
    """Of six slices those at 15 and 20 mm are in the middle."""
    folder = tmp_path / "export"
    folder.mkdir()
    for place, name in enumerate("fadbec", 1):
        (folder / name).write_bytes(
            image(1, 1, place, **T1, InstanceNumber=ord(name), ImagePositionPatient=[0, 0, 5.0 * place])
        )
    write_labels(tmp_path / "labels.csv", (uid(1), "glioma"))
    ingest(request(tmp_path), KEY)
    assert drawn(tmp_path) == pixels((1, 1, 3), (1, 1, 4))


def test_the_frames_of_one_file_are_slices(tmp_path: Path) -> None:
    frames = np.stack(
        [np.frombuffer(pydicom.dcmread(io.BytesIO(image(1, 1, k))).PixelData, "<u2") for k in range(1, 7)]
    )
    data = image(1, 1, 9, **T2, NumberOfFrames=6, PixelData=frames.tobytes())
    (tmp_path / "export").mkdir()
    (tmp_path / "export/frames.dcm").write_bytes(data)
    write_labels(tmp_path / "labels.csv", (uid(1, 1), "glioma", 2, 3), columns="series,label,first,last")
    outcome = ingest(request(tmp_path), KEY)
    assert drawn(tmp_path) == pixels((1, 1, 2), (1, 1, 3))
    assert (outcome.files, outcome.used) == (1, 1)


def test_every_kind_of_file_that_is_no_scan_is_named(root: Path) -> None:
    export = root / "export"
    junk = {
        "DICOMDIR": dicom(np.ones((8, 8), np.uint8), PixelData=None).replace(
            b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0"
        ),
        "note": b"a note of nobody\n",
        "empty": b"",
        "burned": image(1, 3, 1, **T1, BurnedInAnnotation="YES"),
        "capture": image(1, 3, 2, **T1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
        "screen": image(1, 3, 3, **T1, ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        "ct": image(1, 3, 4, **T1, Modality="CT"),
        "report": image(1, 3, 5, **T1, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", PixelData=None),
        "scout": image(1, 3, 6, **{**T1, "SeriesDescription": "localizer"}),
        "dwi": image(1, 3, 7, **{**T2, "SeriesDescription": "ep2d_diff_3scan"}),
        "what": image(1, 3, 8, SeriesDescription="research"),
        "cut": image(1, 3, 9, **T1)[:-100],
        "colour": dicom(np.zeros((64, 64, 3), np.uint8), StudyInstanceUID=uid(1), **T1),
        "mosaic": image(1, 3, 10, **T1, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
        "copy": image(1, 1, 3, **T1),
    }
    for name, data in junk.items():
        (export / "Z").mkdir(exist_ok=True)
        (export / "Z" / name).write_bytes(data)
    (export / ".hidden").write_bytes(b"x")
    (export / "gone").symlink_to("nowhere")
    outcome = ingest(request(root), KEY)
    found = reasons(outcome)
    assert found.pop("slice of the outer two thirds") == 10
    assert found == {
        "text file": 1,
        "empty file": 1,
        "DICOMDIR, a table of contents": 1,
        "image in which text is burned in": 1,
        "secondary capture, such as a screenshot": 2,
        "image of another modality than MR": 1,
        "DICOM file without an image": 1,
        "image that the rules exclude": 2,
        "image of no sequence in the rules": 1,
        "damaged image": 1,
        "image in colour": 1,
        "mosaic of a functional series": 1,
        "file of an image that another file holds": 1,
        "hidden or system file": 1,
        "broken link": 1,
    }
    assert outcome.files == 15 + len(junk) + 2 == outcome.used + len(outcome.rejected)
    assert drawn(root, "glioma/t1-*") == pixels((1, 1, 3), (1, 1, 4))


def test_the_report_says_where_each_file_stands_without_its_name(root: Path) -> None:
    (root / "export/B/notes^of^somebody").write_bytes(b"text\n")
    ingest(request(root), KEY)
    where = {row["where"]: row["reason"] for row in report(root) if row["what"] == "file"}
    assert where["2/4"] == "text file"  # B is the second folder; IM0010001 to 3 come before a name in small letters
    assert where["1/1/1"] == "slice of the outer two thirds"
    assert len(where) == 11


def test_a_second_ingest_adds_nothing_and_changes_no_byte(root: Path) -> None:
    ingest(request(root), KEY)
    before, said = contents(request(root).to), request(root).report.read_bytes()
    again = ingest(request(root), KEY)
    assert (again.added, again.present, again.used) == ({}, 5, 5)
    assert contents(request(root).to) == before
    assert request(root).report.read_bytes() == said


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ingest(request(root), KEY)
    other = Request(root / "export", root / "labels.csv", tmp_path_factory.mktemp("other") / "south")
    ingest(other, KEY)
    assert contents(other.to) == contents(request(root).to)
    assert other.report.read_bytes() == request(root).report.read_bytes()


def test_new_studies_are_added_beside_those_that_are_there(root: Path) -> None:
    ingest(request(root), KEY)
    before = contents(request(root).to)
    (request(root).to / "glioma/own.png").write_bytes(b"a person's own image")
    write_series(root / "export/C", 3, 1, 3, T1C)
    write_labels(root / "labels.csv", (uid(1), "glioma"), (uid(2), "notumor"), (uid(3), "pituitary"))
    outcome = ingest(request(root), KEY)
    after = contents(request(root).to)
    assert (outcome.added, outcome.present) == ({"pituitary": 1}, 5)
    assert drawn(root, "pituitary/t1c-*.png") == pixels((3, 1, 2))
    assert {name for name in before if before[name] != after[name]} == {"patients.csv"}
    assert after["glioma/own.png"] == b"a person's own image"
    assert after["patients.csv"].startswith(before["patients.csv"])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ((uid(1), "meningioma", ""), "image that the dataset has under another label"),
        ((uid(1), "glioma", "P7"), "image that the dataset has under another patient"),
    ],
)
def test_an_image_does_not_get_a_second_label_or_patient(root: Path, line: tuple[str, ...], kind: str) -> None:
    ingest(request(root), KEY)
    before = contents(request(root).to)
    write_labels(root / "labels.csv", line, columns="study,label,patient")
    outcome = ingest(request(root), KEY)
    assert reasons(outcome)[kind] == 4
    assert contents(request(root).to) == before


def test_a_folder_of_another_key_or_origin_is_refused(root: Path) -> None:
    ingest(request(root), KEY)
    with pytest.raises(ConfigError, match="another secret key"):
        ingest(request(root), Pseudonyms(bytes([1] * 32)))
    (request(root).to / dataset.MARK).unlink()
    with pytest.raises(ConfigError, match="was not made by"):
        ingest(request(root), KEY)


def test_a_dataset_inside_the_export_is_refused(root: Path) -> None:
    for place in (root / "export/north", root):
        with pytest.raises(ConfigError, match="outside the folder of the export"):
            ingest(Request(root / "export", root / "labels.csv", place), KEY)


def test_without_a_slice_there_is_a_report_and_no_dataset(root: Path) -> None:
    write_labels(root / "labels.csv", (uid(7), "glioma"))
    with pytest.raises(DataError, match="no slice to write"):
        ingest(request(root), KEY)
    assert not request(root).to.exists()
    assert [row["reason"] for row in report(root) if row["what"] == "labels"] == ["names nothing that is in the folder"]


@pytest.mark.parametrize("before", [False, True], ids=["new", "existing"])
def test_an_interrupted_ingest_leaves_what_was_there(root: Path, before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if before:
        ingest(request(root), KEY)
        write_series(root / "export/C", 3, 1, 9, T1C)
        write_labels(root / "labels.csv", (uid(3), "pituitary"))
    there = contents(root / "dataset")
    add, count = Staging.add, []

    def interrupted(self: Staging, *arguments: object) -> None:
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(1)
        add(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Staging, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingest(request(root), KEY)
    assert {**contents(root / "dataset"), ".north.lock": b""} == {**there, ".north.lock": b""}


def ingest_and_die(root: Path, at: int) -> int:
    """Ingests in a forked process that is killed at a change of the file system, and returns its exit code."""

    def die() -> None:
        exec(torture.SUICIDE.format(kill_at=at), {})  # noqa: S102
        ingest(request(root), KEY)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join()
    return int(process.exitcode or 0)


@pytest.mark.parametrize("before", [False, True], ids=["new", "existing"])
def test_killed_at_any_moment_there_is_the_old_dataset_or_the_new(
    root: Path, before: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if before:
        ingest(request(root), KEY)
        write_series(root / "export/C", 3, 1, 3, T1C)
        write_labels(root / "labels.csv", (uid(1), "glioma"), (uid(3), "pituitary"))
    old = contents(request(root).to)
    places = tmp_path_factory.mktemp("places")
    ingest(request(Path(shutil.copytree(root, places / "whole"))), KEY)
    new = contents(request(places / "whole").to)
    seen: Counter[bool] = Counter()
    for at in range(1, 60):
        place = Path(shutil.copytree(root, places / str(at)))
        died = ingest_and_die(place, at)
        found = contents(request(place).to)
        assert found in (old, new)
        seen[found == new] += 1
        ingest(request(place), KEY)
        assert contents(request(place).to) == new
        assert not list((place / "dataset").glob(".*.partial"))
        if not died:
            break
    assert not died, "it had more changes to make than were tried"
    assert seen[False] > 5
    assert seen[True] > 1


def test_one_process_writes_a_dataset_at_a_time(root: Path) -> None:
    with dataset.locked(request(root).to), pytest.raises(ConfigError, match="another process"):
        ingest(request(root), KEY)


def test_patients_are_those_of_the_table_then_of_the_header_then_of_the_study(tmp_path: Path) -> None:
    for study, fields in ((1, {}), (2, {"PatientID": "patient-1"}), (3, {"PatientID": ""}), (4, {})):
        write_series(tmp_path / f"export/{study}", study, 1, 1, T1, **fields)
    write_labels(
        tmp_path / "labels.csv",
        *((uid(k), "glioma", "P7" if k == 4 else "") for k in (1, 2, 3, 4)),
        columns="study,label,patient",
    )
    outcome = ingest(request(tmp_path), KEY)
    listed = csv.DictReader(io.StringIO((request(tmp_path).to / "patients.csv").read_text()))
    assert Counter(row["patient"] for row in listed) == {
        f"p{KEY.name('patient', 'header', 'patient-1')}": 2,
        f"p{KEY.name('patient', 'study', uid(3))}": 1,
        f"p{KEY.name('patient', 'table', 'P7')}": 1,
    }
    assert "1 of 4 studies" in outcome.notes[0]


def test_one_patient_id_for_all_is_said(tmp_path: Path) -> None:
    for study in (1, 2):
        write_series(tmp_path / f"export/{study}", study, 1, 1, T1, PatientID="ANONYMOUS")
    write_labels(tmp_path / "labels.csv", (uid(1), "glioma"), (uid(2), "glioma"))
    assert "all 2 studies have one PatientID" in ingest(request(tmp_path), KEY).notes[0]


def test_one_patient_of_the_headers_with_two_names_in_the_table_is_said(tmp_path: Path) -> None:
    """Not if all headers name one patient: then they are anonymised, and the table knows better."""
    for study, patient in ((1, "A"), (2, "A"), (3, "B")):
        write_series(tmp_path / f"export/{study}", study, 1, 1, T1, PatientID=patient)
    rows = [(uid(1), "glioma", "P1"), (uid(2), "glioma", "P2"), (uid(3), "glioma", "P3")]
    write_labels(tmp_path / "labels.csv", *rows, columns="study,label,patient")
    assert "several patients for 1 PatientID" in ingest(request(tmp_path), KEY).notes[0]
    write_labels(tmp_path / "labels.csv", *rows[:2], columns="study,label,patient")
    assert ingest(request(tmp_path), KEY).notes == []


def test_images_in_another_direction_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "export", 1, 1, 3, T1)
    for number in (4, 5):
        (tmp_path / f"export/{number}").write_bytes(
            image(1, 1, number, **T1, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
        )
    write_labels(tmp_path / "labels.csv", (uid(1), "glioma"))
    found = reasons(ingest(request(tmp_path), KEY))
    assert found["image in another direction than its series, or of a place that another shows"] == 2


def test_the_files_that_come_with_pydicom_are_all_accounted_for(tmp_path: Path) -> None:
    source = Path(pydicom.__file__).parent / "data"
    files = [file for file in sorted(source.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    for number, file in enumerate(files):
        (tmp_path / "export").mkdir(exist_ok=True)
        (tmp_path / f"export/{number:03}").write_bytes(file.read_bytes())
    small = pydicom.dcmread(source / "test_files/MR_small.dcm")
    write_labels(tmp_path / "labels.csv", (small.StudyInstanceUID, "glioma"))
    outcome = ingest(request(tmp_path), KEY)
    assert outcome.files == len(files) == outcome.used + len(outcome.rejected)
    assert outcome.added == {"glioma": 1}  # MR_small in other encodings is one image, and its copies are named
    assert reasons(outcome)["file of an image that another file holds"] >= 3


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first, made = pseudonyms.load_or_make(tmp_path / "keys/secret")
    again, made_again = pseudonyms.load_or_make(tmp_path / "keys/secret")
    assert (made, made_again, first) == (True, False, again)
    assert stat.S_IMODE((tmp_path / "keys/secret").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["secret"]
    assert (tmp_path / "keys/secret").read_text().strip() not in repr(first)


def test_a_key_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    pseudonyms.load_or_make(file)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        pseudonyms.load_or_make(file)
    file.write_text("secret")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        pseudonyms.load_or_make(file)


def test_pseudonyms_are_hmac_sha_256_and_differ_by_kind_and_key() -> None:
    """RFC 4231, test case 2: HMAC-SHA-256 of "what do ya want for nothing?" under "Jefe" begins with 5bdcc146bf60754e."""
    assert hmac.new(b"Jefe", b"what do ya want for nothing?", hashlib.sha256).hexdigest().startswith("5bdcc146bf60754e")
    assert KEY.name("image", "1.2", "0") == hmac.new(bytes(32), b"image\x001.2\x000", hashlib.sha256).hexdigest()[:16]
    names = {KEY.name("patient", "1.2"), KEY.name("image", "1.2"), Pseudonyms(bytes([1] * 32)).name("patient", "1.2")}
    assert len(names) == 3
