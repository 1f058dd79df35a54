"""Identifiers are planted wherever an export can hold them, and must be in nothing that an ingest writes or says.

Planted are a word of its own in every field of DICOM's dictionary that holds text, dates, times and numbers as text, at the
outermost level and inside sequences, in private fields, in the names of files and folders, in the table of labels, and in what
else lies in the folder: notes, pictures, reports, damaged and cut files.
"""

import io
import logging
import re
import struct
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import bad_inputs
import pydicom
import pytest
from exports import T1, T1C, image, uid, write_labels
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medisync.cli.main import main

SECRET = re.compile(rb"(?i)ZQX|(?<![0-9a-f])(19[,.]?470[,.]?704|194707|4,?711)(?![0-9a-f])")
"""What every planted identifier holds: a word that no program writes, a date of birth, a number; not digits of a hash."""

PLANTED = {
    **dict.fromkeys(("AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "PN", "CS"), "ZQX{:05}"),
    "DA": "19470704",
    "DT": "19470704120000",
    "TM": "194707.04",
    "AS": "ZQX",
    "DS": "4711.25",
    "IS": "19470704",
}
"""Values by the type of the field."""

KEPT = {
    *(
        "Modality",
        "PhotometricInterpretation",
        "SOPClassUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
    ),
    *(
        "ImageType",
        "SpecificCharacterSet",
        "BurnedInAnnotation",
        "ConversionType",
        "BodyPartExamined",
        "NumberOfFrames",
    ),
    *(
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "InstanceNumber",
        "EchoTime",
        "RepetitionTime",
        "PixelSpacing",
    ),
    *("SeriesDescription", "ContrastBolusAgent", "PatientID", "AccessionNumber", "SequenceName", "ProtocolName"),
    *("PresentationLUTShape", "PixelAspectRatio", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
}
"""Fields that an ingest reads; they are planted by hand, with values that it must cope with."""


def fields_of_the_dictionary() -> Iterator[tuple[int, str, str]]:
    for tag, (kind, multiplicity, _, retired, name) in DicomDictionary.items():
        if (
            kind in PLANTED
            and name
            and not retired
            and multiplicity.startswith("1")
            and name not in KEPT
            and tag >> 16 > 2
        ):
            yield tag, kind, PLANTED[kind].format(tag & 0xFFFF)


def plant(data: bytes) -> bytes:
    """Returns a DICOM file with a planted value in every field, in a sequence and in private fields."""
    file = pydicom.dcmread(io.BytesIO(data))
    inner = Dataset()
    for tag, kind, value in fields_of_the_dictionary():
        file.add_new(tag, kind, value)
        inner.add_new(tag, kind, value)
    for name in ("RequestAttributesSequence", "OtherPatientIDsSequence"):
        setattr(file, name, Sequence([inner]))
    block = file.private_block(0x0029, "ZQX PRIVATE", create=True)
    for element, (kind, value) in enumerate([("LO", "ZQXprivate"), ("UN", b"ZQXunknown"), ("PN", "ZQX^JOHN")]):
        block.add_new(element, kind, value)
    file.file_meta.SourceApplicationEntityTitle = "ZQXSOURCE"
    file.file_meta.PrivateInformationCreatorUID = uid(8)
    file.file_meta.PrivateInformation = b"ZQXPRIVATE"
    file.preamble = b"ZQX^PREAMBLE".ljust(128, b"\0")
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


NAMED = {"PatientID": "ZQX4711", "AccessionNumber": "ZQXACC", "ProtocolName": "ZQX protocol", "SequenceName": "ZQX"}


def planted_image(series: int, number: int, sequence: Mapping[str, object]) -> bytes:
    said = {"SeriesDescription": f"{sequence['SeriesDescription']} ZQX^JOHN", "BodyPartExamined": "BRAIN ZQX"}
    return plant(image(1, series, number, **{**sequence, **said, **NAMED}))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export full of identifiers."""
    place = tmp_path_factory.mktemp("export")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values that are none of their type
        write_export(place / "ZQX^JOHN_19470704/MRN ZQX4711")
    return place


def write_export(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(1, 7):
        (folder / f"ZQX4711-{number}.dcm").write_bytes(planted_image(1, number, T1))
        (folder / f"ZQX4711-c-{number}").write_bytes(planted_image(2, number, T1C))
    whole = planted_image(3, 1, T1)
    refused = {
        "half": whole[: len(whole) // 2],
        "tenth": whole[: len(whole) // 10],
        "burned": plant(image(2, 4, 1, **T1, BurnedInAnnotation="YES")),
        "capture": plant(image(2, 4, 2, **T1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
        "report": plant(image(2, 4, 3, **T1, PixelData=None)),
        "what": plant(image(2, 4, 4, SeriesDescription="ZQX research")),
        "frames": plant(image(2, 4, 5, **T1, NumberOfFrames=19470704)),
        "syntax": plant(image(2, 4, 6, **T1)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.ZQX19470704."),
        "kind": plant(image(2, 4, 7, **T1, PhotometricInterpretation="ZQX^JOHN")),
        "bits": plant(image(1, 3, 9, **{**T1, **NAMED}, BitsAllocated=4711)),
        "letters": plant(image(2, 4, 8, **T1)).replace(b"t1_se_tra", b"\xff\xfeZQX\x00\xff\x80"),
        "type": whole.replace(b"\x18\x00\x15\x00CS", b"\x18\x00\x15\x00UL"),  # pydicom quotes the bytes of such a field
        "photo.jpg": bad_inputs.named_jpeg() + b"ZQX",
        "note.txt": b"ZQX^JOHN, born 19470704\n",
        "report.pdf": b"%PDF-1.7 ZQX^JOHN",
        ".ZQX": b"ZQX",
    }
    for name, data in refused.items():
        (folder / f"ZQX {name}").write_bytes(data)
    (folder / "ZQX gone").symlink_to("ZQX^JOHN")


@pytest.fixture
def root(tmp_path: Path, export: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the export, the table of labels and a workspace, and one for temporary files of the process."""
    (tmp_path / "export").symlink_to(export)
    rows = [
        ("ZQXACC", "", "glioma", "ZQX^JOHN", "ZQX comment"),
        ("ZQXGONE", "", "glioma", "ZQX", "19470704"),
        ("ZQXACC2", "", "ZQX tumour", "", ""),
        ("", uid(1), "glioma", "", "", "ZQX one cell too many"),
    ]
    write_labels(tmp_path / "ZQX labels.csv", *rows, columns="accession,study,label,patient,ZQX")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "workspace").mkdir()
    return tmp_path


def run(root: Path, **options: str) -> int:
    chosen = {"dicom": str(root / "export"), "labels": str(root / "ZQX labels.csv"), "to": "dataset/north", **options}
    arguments = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    return main(["ingest", "--workspace", str(root / "workspace"), *arguments])


def written(root: Path) -> dict[str, bytes]:
    """Returns everything that an ingest wrote, by name."""
    places = (root / "workspace", root / "temporary")
    return {
        str(file.relative_to(root)): file.read_bytes()
        for each in places
        for file in sorted(each.rglob("*"))
        if file.is_file()
    }


def found_in(root: Path, said: str) -> list[str]:
    """Returns where an identifier is: in the name of a file, in its content in any encoding, or in what was said."""
    places = {**written(root), "said": said.encode()}
    return [
        name
        for name, data in places.items()
        if any(SECRET.search(text) for text in (name.encode(), data, data.replace(b"\0", b"")))
        or any(number.encode() in data for number in (uid(1), uid(1, 1), uid(1, 1, 3)))
    ]


def test_the_planted_identifiers_can_be_found(root: Path) -> None:
    """A thousand and more fields hold one, so that a copy of any of them is seen."""
    assert len(list(fields_of_the_dictionary())) > 1000
    planted = next((root / "export").rglob("ZQX4711-1.dcm")).read_bytes()
    assert len(SECRET.findall(planted)) > 3000
    (root / "workspace/copy").write_bytes("ZQX^JOHN".encode("utf-16-le"))
    (root / "workspace/ZQX").write_bytes(b"")
    assert found_in(root, f"of {uid(1)}") == ["workspace/ZQX", "workspace/copy", "said"]


def test_no_planted_identifier_is_written_or_said(
    root: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert run(root) == 0
    assert run(root) == 0  # what is there already is read again
    write_labels(root / "ZQX labels.csv", ("ZQXACC", "glioma"), columns="accession,label")
    assert run(root, to="dataset/south") == 0  # patients are now those of the headers
    said = "".join(capfd.readouterr()) + caplog.text
    assert "added 4 slices" in said
    assert {Path(name).parent.name for name in written(root)} >= {"glioma", "north", "dataset"}
    assert found_in(root, said.replace("ZQX labels.csv", "")) == []


def test_no_planted_identifier_is_in_an_error(
    root: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_labels(root / "labels.csv", ("ZQX", "ZQX"), columns="study,label")
    assert run(root, labels=str(root / "labels.csv")) == 1
    write_labels(root / "labels.csv", ("ZQX", "ZQX"), columns="ZQX4711,19470704")
    assert run(root, labels=str(root / "labels.csv")) == 1
    write_labels(root / "labels.csv", ('"ZQX', "ZQX"), columns="study,label")
    assert run(root, labels=str(root / "labels.csv")) == 1
    said = "".join(capfd.readouterr()) + caplog.text
    assert said.count("medisync:") == 3
    assert found_in(root, said) == []


def test_a_png_holds_pixels_alone(root: Path) -> None:
    assert run(root) == 0
    pictures = [data for name, data in written(root).items() if name.endswith(".png")]
    assert [chunks(data) for data in pictures] == [{b"IHDR", b"IDAT", b"IEND"}] * 4


def chunks(png: bytes) -> set[bytes]:
    """Returns the kinds of chunks in a PNG file, all of whose bytes belong to one (PNG specification, 5.3)."""
    found, place = set(), 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        found.add(png[place + 4 : place + 8])
        place += length + 12
    assert place == len(png)
    return found


def test_the_key_is_said_nowhere(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(root) == 0
    key = (root / "workspace/pseudonyms.key").read_bytes().strip()
    said = "".join(capfd.readouterr()).encode()
    assert b"pseudonyms.key" in said
    assert [name for name, data in {**written(root), "said": said}.items() if key in data] == [
        "workspace/pseudonyms.key"
    ]


def test_pseudonyms_mean_nothing_under_another_key(root: Path) -> None:
    """Two hospitals with one patient name the same images and the same patient differently."""
    assert run(root) == 0
    assert run(root, to="dataset/south", secret=str(root / "workspace/other.key")) == 0
    north, south = (
        {file.stem.partition("-")[2] for file in (root / "workspace/dataset" / name).rglob("*.png")}
        for name in ("north", "south")
    )
    assert len(north) == len(south) == 4
    assert not north & south
