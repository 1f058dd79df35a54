"""What comes out of an upload: the file itself, or what is in an archive."""

import io
import zipfile

import pytest

from medisync.dashboard import uploads


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def problems(content: bytes) -> list[str]:
    return [scan.problem for scan in uploads.expand("a.zip", "k", content)]


def test_a_file_that_is_no_archive_stays_as_it_is() -> None:
    assert uploads.expand("a.png", "k", b"bytes") == [uploads.Scan("a.png", "k", b"bytes")]


def test_images_come_out_of_an_archive_and_nothing_else() -> None:
    content = archive({"one.png": b"1", "in/two.DCM": b"2", "notes.txt": b"3", "__MACOSX/x.png": b"4"})
    found = uploads.expand("a.zip", "k", content)
    assert [(scan.name, scan.content) for scan in found] == [("a.zip: one.png", b"1"), ("a.zip: in/two.DCM", b"2")]
    assert len({scan.key for scan in found}) == 2


def test_an_archive_without_images_says_so() -> None:
    assert problems(archive({"notes.txt": b"x"})) == ["the archive holds no image"]


def test_a_damaged_archive_says_so() -> None:
    assert problems(archive({"a.png": b"x" * 999})[:60]) == ["the archive is damaged"]


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UNPACKED", 1000)
    found = uploads.expand("a.zip", "k", archive({"a.png": b"\0" * 600, "b.png": b"\0" * 10**6, "c.png": b"x"}))
    assert [len(scan.content) for scan in found] == [600, 0]
    assert found[1].problem.startswith("the archive unpacks to more than")


def test_more_images_than_the_limit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_MEMBERS", 2)
    found = problems(archive({f"{k}.png": b"x" for k in range(5)}))
    assert found == ["", "", "3 more images: upload at most 2 at once"]
