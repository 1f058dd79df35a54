"""Files are scans by their content, belong together by their series or their pair, and are counted where they are neither."""

import gzip
import os
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from bad_inputs import PATIENT, archive, dicom, encoded, nifti, pair
from pydicom.uid import generate_uid
from scans import texture

from medisync.errors import ImageError
from medisync.imaging import scan_files
from medisync.imaging.scan_files import Entry, Found, list_folder, sort_files

REPORT, DIRECTORY = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.1.3.10"


def entry(name: str, content: bytes, named: bool = False) -> Entry:
    return Entry(name, len(content), lambda size: content[:size], lambda: content, named)


def sort(files: dict[str, bytes], **options: bool) -> Found:
    return sort_files([entry(name, content, **options) for name, content in files.items()])


def names(found: Found) -> list[str]:
    return [scan.name for scan in found.scans]


def slices(count: int, series: str = "") -> list[bytes]:
    """Returns single-frame files of one series."""
    uid = series or generate_uid()
    return [dicom(SeriesInstanceUID=uid, InstanceNumber=number) for number in range(count)]


def without_image(kind: str) -> bytes:
    """Returns a DICOM file of another class than images."""
    file = pydicom.dcmread(BytesIO(dicom()))
    file.file_meta.MediaStorageSOPClassUID = kind
    del file.PixelData
    stream = BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def without_preamble(data: bytes) -> bytes:
    """Returns the data set alone, as devices write it that know nothing of files."""
    file = pydicom.dcmread(BytesIO(data))
    stream = BytesIO()
    pydicom.dcmwrite(stream, pydicom.Dataset(file), implicit_vr=True, little_endian=True)
    return stream.getvalue()


SCANS = {
    "a PACS file without suffix": ("CD/IM000001", dicom()),
    "a Siemens export": ("scan.IMA", dicom()),
    "a long suffix": ("scan.dicom", dicom()),
    "an identifier as a name": ("1.2.840.113619.2.55", dicom()),
    "a suffix of another format": ("scan.txt", dicom()),
    "no preamble": ("IM1", without_preamble(dicom())),
    "a photograph's suffix": ("scan.jfif", encoded(texture(1), "JPEG")),
    "capital letters": ("SCAN.JPG", encoded(texture(1), "JPEG")),
    "no suffix": ("scan", encoded(texture(1))),
    "NIfTI without suffix": ("volume", nifti(texture(1)[..., None].astype(np.int16))),
    "compressed NIfTI": ("volume.gz", gzip.compress(nifti(texture(1)[..., None].astype(np.int16)))),
    "a large TIFF file": ("scan.dat", b"II+\x00" + bytes(60)),
}


@pytest.mark.parametrize(("name", "content"), SCANS.values(), ids=SCANS.keys())
def test_a_scan_is_recognised_by_its_content(name: str, content: bytes) -> None:
    found = sort({name: content})
    assert names(found) == [name]
    assert not found.left_out
    assert found.scans[0].read() == [content]


def tar() -> bytes:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        file.addfile(tarfile.TarInfo("a"))
    return stream.getvalue()


REST = {
    "report": (without_image(REPORT), "1 DICOM file without an image (report)"),
    "DICOMDIR": (without_image(DIRECTORY), "1 DICOMDIR, a table of contents (DICOMDIR)"),
    "more.zip": (archive({"a.png": b"x"}), "1 archive inside the folder, not opened (more.zip)"),
    "more": (b"Rar!\x1a\x07\x01\x00", "1 archive inside the folder, not opened (more)"),
    "more.tgz": (tar(), "1 archive inside the folder, not opened (more.tgz)"),
    "letter.docx": (archive({"[Content_Types].xml": b"<a/>"}), "1 Office document (letter.docx)"),
    "notes.txt": (b"BMI,age\n21,50\n", "1 text file (notes.txt)"),
    "latin.csv": ("Grüße".encode("latin-1"), "1 text file (latin.csv)"),
    "wide.txt": ("text".encode("utf-16"), "1 text file (wide.txt)"),
    "paper": (b"%PDF-1.7\n", "1 PDF document (paper)"),
    "index.htm": (b"<!doctype html><html></html>", "1 web page (index.htm)"),
    "sound.wav": (b"RIFF\x00\x00\x00\x00WAVEfmt ", "1 sound (sound.wav)"),
    "nothing": (b"", "1 empty file (nothing)"),
    "data.bin": (bytes(range(64)), "1 file of unknown type (data.bin)"),
    "log.gz": (gzip.compress(b"a line\n"), "1 compressed file that holds no NIfTI volume (log.gz)"),
}


@pytest.mark.parametrize(("name", "content", "said"), [(name, *rest) for name, rest in REST.items()], ids=REST.keys())
def test_what_is_no_scan_is_counted_with_its_reason(name: str, content: bytes, said: str) -> None:
    found = sort({name: content})
    assert found.scans == []
    assert str(found.left_out) == said


@pytest.mark.parametrize("name", ["page.png", "page.dcm", "page.NII.GZ", "page.hdr"])
def test_a_file_that_claims_to_be_a_scan_is_never_left_out_in_silence(name: str) -> None:
    found = sort({name: b"<html></html>"})
    assert names(found) == [name]
    with pytest.raises(ImageError):
        found.scans[0].open()


def test_a_file_that_a_person_named_is_refused_by_name_but_what_accompanies_images_is_counted() -> None:
    found = sort({"notes.txt": b"text", "DICOMDIR": without_image(DIRECTORY)}, named=True)
    assert names(found) == ["notes.txt"]
    assert found.left_out.counts == {"DICOMDIR, a table of contents": 1}


def test_files_of_one_series_are_one_scan_named_after_their_folder() -> None:
    first, second = slices(3), slices(2)
    files = {
        f"CD/SE{one}/IM{two}": data for one, series in enumerate((first, second)) for two, data in enumerate(series)
    }
    found = sort(files)
    assert names(found) == ["CD/SE0 (3 slices)", "CD/SE1 (2 slices)"]
    assert [scan.read() for scan in found.scans] == [first, second]


def test_a_series_is_named_after_its_first_file_where_the_folder_does_not_tell_it_apart() -> None:
    files = {f"IM{number}": data for number, data in enumerate([*slices(2), *slices(2)])}
    assert names(sort(files)) == ["IM0 (first of 2 slices)", "IM2 (first of 2 slices)"]
    apart = dict(zip(("a/1", "b/2"), slices(2), strict=True))
    assert names(sort(apart)) == ["a/1 (first of 2 slices)"]


def test_no_name_says_what_a_file_holds() -> None:
    uid = generate_uid()
    found = sort(dict(zip(("SE/1", "SE/2", "SE/report"), [*slices(2, uid), without_image(REPORT)], strict=True)))
    said = str(found.left_out) + str(names(found))
    assert PATIENT not in said
    assert uid not in said


def test_frames_and_images_without_a_place_are_scans_of_their_own() -> None:
    uid = generate_uid()
    several = np.stack([texture(k, 64) for k in range(3)])
    frames = [dicom(several, SeriesInstanceUID=uid, InstanceNumber=k) for k in range(2)]
    unplaced = [dicom(SeriesInstanceUID=uid) for _ in range(2)]
    assert names(sort(dict(zip("abcd", [*frames, *unplaced], strict=True)))) == ["a", "b", "c", "d"]


def test_the_header_of_a_dicom_file_may_be_longer_than_what_is_read_first() -> None:
    uid = generate_uid()
    long = [dicom(SeriesInstanceUID=uid, InstanceNumber=k, EncapsulatedDocument=bytes(2**18)) for k in range(2)]
    assert names(sort(dict(zip("ab", long, strict=True)))) == ["a (first of 2 slices)"]


def test_a_damaged_dicom_file_is_refused_by_name() -> None:
    found = sort({"IM1": dicom()[:300]})
    assert names(found) + list(found.left_out.counts) == ["IM1"]
    with pytest.raises(ImageError):
        found.scans[0].open()


@pytest.mark.parametrize("suffixes", [("hdr", "img"), ("HDR", "IMG"), ("hdr.gz", "img.gz"), ("hdr", "img.gz")])
def test_a_header_and_its_pixels_are_one_scan(suffixes: tuple[str, str]) -> None:
    parts = [
        gzip.compress(part) if suffix.endswith("gz") else part for part, suffix in zip(pair(), suffixes, strict=True)
    ]
    files = {f"a/Brain.{suffixes[1]}": parts[1], f"a/brain.{suffixes[0]}": parts[0]}
    found = sort(files)
    assert names(found) == [f"a/brain.{suffixes[0]}"]
    assert found.scans[0].read() == parts
    assert found.scans[0].open().count == 4


def test_half_a_pair_says_what_is_missing() -> None:
    header, pixels = pair()
    for name, content, missing in (
        ("a/b.hdr", header, "b.img with its pixels"),
        ("a/b.img", pixels, "b.hdr with its header"),
    ):
        (scan,) = sort({name: content}).scans
        with pytest.raises(ImageError, match=f"exactly one {missing} must be beside it"):
            scan.read()
    assert len(sort({"a/b.hdr": header, "c/b.img": pixels}).scans) == 2


def test_pairs_of_the_same_name_are_not_mixed_up() -> None:
    header, pixels = pair()
    twice = [entry("b.hdr", header), entry("b.img", pixels)] * 2
    found = sort_files(twice)
    assert len(found.scans) == 4
    assert all("exactly one" in scan.problem for scan in found.scans)


def test_two_uploads_of_the_same_name_are_two_scans() -> None:
    found = sort_files([entry("a.png", encoded(texture(k))) for k in range(2)])
    assert names(found) == ["a.png", "a.png"]


def test_a_series_larger_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_files, "MAX_SERIES_BYTES", 2**20)
    size = 2**19 + 1
    scan = scan_files.ScanFiles("CD", tuple(Entry(str(k), size, lambda n: b"", lambda: b"") for k in range(2)))
    with pytest.raises(ImageError, match="its 2 files have 1 MB together, more than the limit of 1 MB"):
        scan.read()


def test_a_folder_is_listed_with_what_cannot_be_read(tmp_path: Path) -> None:
    for name in ("b/IM2", "a/IM1", "._IM1", "__MACOSX/IM1", "Thumbs.db", ".hidden/IM1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(dicom())
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    entries, left_out = list_folder(tmp_path)
    assert [each.name for each in entries] == [str(tmp_path / "a/IM1"), str(tmp_path / "b/IM2")]
    assert left_out.counts == {
        "hidden or system file": 4,
        "broken link": 1,
        "link to a folder that was already visited": 1,
        "neither a file nor a folder": 1,
    }
    assert str(left_out).startswith(
        "4 hidden or system files (._IM1, .hidden, Thumbs.db, ...), 1 broken link (dangling"
    )


def test_an_unreadable_file_is_refused_or_counted(tmp_path: Path) -> None:
    for name in ("scan.png", "rest"):
        (tmp_path / name).symlink_to("/proc/self/mem")  # not even root can read this file
    entries, _ = list_folder(tmp_path)
    found = sort_files(entries)
    assert [scan.problem for scan in found.scans] == ["cannot be read: Input/output error"]
    assert str(found.left_out) == "1 unreadable file: cannot be read: Input/output error (rest)"


def test_names_that_are_quoted_have_no_control_characters() -> None:
    found = sort({"a\nERROR\u202e": b"text"})
    assert str(found.left_out) == r"1 text file (a\nERROR\u202e)"
