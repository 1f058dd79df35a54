"""Uploads are expanded to the scans among them and in archives; the rest is counted or refused by name."""

import gzip

import pytest
from bad_inputs import PNG, archive, dicom, encrypted_archive
from pydicom.uid import generate_uid

from medisync.dashboard import uploads
from medisync.dashboard.uploads import Sent, Upload, expand
from medisync.imaging.file_tree import LeftOut


def sent(files: dict[str, bytes]) -> list[Sent]:
    return [Sent(name, f"key of {name}", content) for name, content in files.items()]


def inside(members: dict[str, bytes]) -> tuple[list[Upload], LeftOut]:
    return expand([Sent("a.zip", "k", archive(members))])


def problem(content: bytes) -> str:
    (upload,), left_out = expand([Sent("a.zip", "k", content)])
    assert upload.files == ()
    assert not left_out
    return upload.problem


def series(count: int) -> list[bytes]:
    uid = generate_uid()
    return [dicom(SeriesInstanceUID=uid, InstanceNumber=number) for number in range(count)]


def test_a_file_is_returned_unchanged() -> None:
    found, left_out = expand(sent({"a.png": PNG}))
    assert found == [Upload("a.png", "key of a.png", (PNG,))]
    assert not left_out


def test_a_path_that_leads_upwards_is_only_a_name() -> None:
    ((upload,), left_out) = expand(sent({"../../x.png": PNG}))
    assert (upload.name, len(left_out)) == ("../../x.png", 0)


def test_a_file_that_is_no_scan_is_returned_to_be_refused_by_name() -> None:
    ((upload,), left_out) = expand(sent({"notes.txt": b"text"}))
    assert upload == Upload("notes.txt", "key of notes.txt", (b"text",))
    assert not left_out


def test_files_of_a_series_that_were_selected_together_are_one_scan() -> None:
    files = dict(zip(("IM2", "IM1", "IM3"), series(3), strict=True))
    found, left_out = expand(sent({**files, "a.png": PNG, ".DS_Store": b"x", "DICOMDIR": dicom()[:128] + b"DICM"}))
    assert [(scan.name, len(scan.files)) for scan in found][:2] == [("IM1 (first of 3 slices)", 3), ("a.png", 1)]
    assert left_out.counts["hidden or system file"] == 1


def test_the_key_of_a_series_follows_its_files() -> None:
    files = dict(zip("abc", series(3), strict=True))
    (whole,), _ = expand(sent(files))
    (again,), _ = expand(sent(files))
    (part,), _ = expand(sent({name: files[name] for name in "ab"}))
    assert whole.key == again.key != part.key


def test_scans_come_out_of_an_archive_by_content() -> None:
    files = {
        "one.png": PNG,
        "CD/IM000001": dicom(),
        "scan.IMA": dicom(),
        "in/two": gzip.compress(b"x"),
        "notes.txt": b"3",
    }
    found, left_out = inside({**files, "__MACOSX/x.png": b"4", "more.zip": archive({"a.png": PNG})})
    assert [(scan.name, scan.files) for scan in found] == [
        ("a.zip: one.png", (PNG,)),
        ("a.zip: CD/IM000001", (files["CD/IM000001"],)),
        ("a.zip: scan.IMA", (files["scan.IMA"],)),
    ]
    assert len({scan.key for scan in found}) == 3
    assert str(left_out) == (
        "1 compressed file that holds no NIfTI volume (two), 1 text file (notes.txt), "
        "1 archive inside the archive, not opened (more.zip), 1 hidden or system file (x.png)"
    )


def test_a_series_in_an_archive_counts_as_one_of_the_scans_that_it_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_SCANS", 1)
    members = {f"SE1/IM{number}": data for number, data in enumerate(series(4))}
    (scan,), _ = inside(members)
    assert (scan.name, len(scan.files)) == ("a.zip: SE1 (4 slices)", 4)
    assert problem(archive({**members, "a.png": PNG})) == "the archive contains 2 scans; upload at most 1 at once"


def test_what_only_turns_out_to_be_a_scan_counts_towards_the_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UNPACKED", 2 * len(PNG))
    assert len(inside({"a": PNG, "b": PNG})[0]) == 2
    assert "unpacks to more than the limit" in problem(archive({"a": PNG, "b": PNG, "c": PNG}))


def test_an_archive_without_scans_says_what_it_holds() -> None:
    assert problem(archive({"notes.txt": b"x"})) == "the archive contains no scan, only 1 text file (notes.txt)"
    nested = archive({"inner.zip": archive({"a.png": PNG})})
    assert problem(nested) == "the archive contains no scan, only 1 archive inside the archive, not opened (inner.zip)"
    assert problem(archive({})) == "the archive is empty"


def test_what_cannot_be_unpacked_says_so() -> None:
    assert problem(archive({"a.png": b"x" * 999})[:60]).startswith("the archive is damaged")
    ((upload,), _) = expand([Sent("a.zip", "k", encrypted_archive())])
    assert (upload.name, upload.problem) == (
        "a.zip: a.png",
        "the file is encrypted in the archive; pack it without a password",
    )


def test_files_and_archives_can_be_uploaded_together() -> None:
    found, _ = expand([Sent("a.zip", "k", archive({"one.png": PNG})), *sent({"b.png": PNG})])
    assert {scan.name for scan in found} == {"a.zip: one.png", "b.png"}
