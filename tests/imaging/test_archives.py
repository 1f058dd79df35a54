"""A ZIP archive is listed without unpacking it; what it must not hold is refused, and what cannot be read is named."""

import io
import zipfile

import pytest
from bad_inputs import PNG, archive, encrypted_archive

from medisync.errors import ImageError
from medisync.imaging import archives
from medisync.imaging.archives import Limits, is_zip, list_archive
from medisync.imaging.file_tree import LeftOut
from medisync.imaging.scan_files import Entry

LIMITS = Limits(files=1000, unpacked=2**20)


def opened(content: bytes) -> tuple[list[Entry], LeftOut]:
    return list_archive(io.BytesIO(content), LIMITS)


def test_members_are_read_when_they_are_asked_for() -> None:
    entries, left_out = opened(archive({"a/one": b"first", "two": b"second"}))
    assert [(each.name, each.size, each.read_head(3), each.read()) for each in entries] == [
        ("a/one", 5, b"fir", b"first"),
        ("two", 6, b"sec", b"second"),
    ]
    assert not left_out


def test_folders_written_by_windows_are_folders() -> None:
    assert [each.name for each in opened(archive({"SE1\\IM1": b"x"}))[0]] == ["SE1/IM1"]


def test_what_a_mac_adds_is_counted() -> None:
    entries, left_out = opened(archive({"__MACOSX/a": b"x", "b/._c": b"x", ".DS_Store": b"x", "b/c": b"x"}))
    assert [each.name for each in entries] == ["b/c"]
    assert left_out.counts == {"hidden or system file": 3}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_usual_methods_are_read(method: int) -> None:
    assert opened(archive({"a": b"content" * 50}, method))[0][0].read() == b"content" * 50


def claiming(method: int) -> bytes:
    """Returns an archive whose member claims to be packed with another method."""
    data = bytearray(archive({"a.png": PNG}))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(signature) + offset] = method
    return bytes(data)


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (77, "method 77")])
def test_a_method_that_is_not_read_is_named(method: int, name: str) -> None:
    (entry,), _ = opened(claiming(method))
    with pytest.raises(ImageError, match=rf"packed in a way that is not read here \({name}.*ordinary ZIP"):
        entry.read_head(10)


def test_an_encrypted_member_says_what_to_do() -> None:
    (entry,), _ = opened(encrypted_archive())
    with pytest.raises(ImageError, match="encrypted in the archive; pack it without a password"):
        entry.read()


def test_a_damaged_member_is_damaged_and_the_others_are_read() -> None:
    content = bytearray(archive({"a": b"a" * 99, "b": b"whole"}, zipfile.ZIP_STORED))
    content[content.index(b"aaaa")] = 0
    first, second = opened(bytes(content))[0]
    with pytest.raises(ImageError, match="damaged in the archive"):
        first.read()
    assert second.read() == b"whole"


REFUSED = {
    "a path outside": (archive({"a/../../x.png": b"x"}), "paths outside it"),
    "a path outside, as Windows writes it": (archive({"..\\x.png": b"x"}), "paths outside it"),
    "too many files": (archive({str(k): b"" for k in range(1001)}), "contains 1,001 files; the limit is 1,000 at once"),
    "a long table of contents": (archive({f"{k:0900}": b"" for k in range(700)}), "lists too many files"),
    "a bomb": (archive({"a.png": b"\0" * (2**20 + 1)}), "unpacks to more than the limit of 1 MB"),
    "slow methods": (
        archive({str(k): b"x" for k in range(201)}, zipfile.ZIP_BZIP2),
        "over 200 files packed with bzip2",
    ),
    "half": (archive({"a": bytes(99)})[:60], "the archive is damaged"),
    "a start only": (b"PK\x03\x04", "the archive is damaged"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_an_archive_is_refused_unopened(content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*arguments: object) -> bytes:
        raise AssertionError("a member was unpacked")

    monkeypatch.setattr(archives.zipfile.ZipFile, "open", unpack)
    with pytest.raises(ImageError, match=reason):
        opened(content)


def test_a_colon_in_a_name_is_no_drive() -> None:
    assert len(opened(archive({"12:30 scan.png": b"x"}))[0]) == 1


def test_an_archive_of_more_than_4_gb_is_listed_by_its_other_last_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    content = bytearray(archive({"a": b"x"}, zipfile.ZIP_STORED))
    assert b"PK\x06\x06" in content
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = b"\xff" * 4
    assert [each.name for each in opened(bytes(content))[0]] == ["a"]


def test_a_comment_that_looks_like_the_last_record_does_not_hide_the_table_of_contents() -> None:
    content = archive({"a": b"x"})
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as file:
        file.comment = b"made by hand"
    assert [each.name for each in opened(stream.getvalue())[0]] == ["a"]


def test_office_documents_are_no_archives() -> None:
    assert is_zip(archive({"a": b"x"}))
    assert is_zip(archive({}))
    assert not is_zip(archive({"[Content_Types].xml": b"<a/>"}))
    assert not is_zip(PNG)
