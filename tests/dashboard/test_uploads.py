"""Uploads are expanded to the file itself, or to the images in an archive."""

from bad_inputs import archive

from medisync.dashboard import uploads


def problems(content: bytes) -> list[str]:
    return [scan.problem for scan in uploads.expand("a.zip", "k", content)]


def test_a_file_that_is_not_an_archive_is_returned_unchanged() -> None:
    assert uploads.expand("a.png", "k", b"bytes") == [uploads.Upload("a.png", "k", (b"bytes",))]


def test_only_images_come_out_of_an_archive() -> None:
    content = archive({"one.png": b"1", "in/two.DCM": b"2", "notes.txt": b"3", "__MACOSX/x.png": b"4"})
    found = uploads.expand("a.zip", "k", content)
    assert [(scan.name, scan.files) for scan in found] == [("a.zip: one.png", (b"1",)), ("a.zip: in/two.DCM", (b"2",))]
    assert len({scan.key for scan in found}) == 2


def test_an_archive_without_images_says_so() -> None:
    assert problems(archive({"notes.txt": b"x"})) == ["the archive contains no images"]


def test_a_damaged_archive_says_so() -> None:
    assert problems(archive({"a.png": b"x" * 999})[:60]) == ["the archive is damaged"]
