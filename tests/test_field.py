"""Kinds of files that users of viewers, converters and classifiers have reported, at every door.

Each row of the table in docs/reliability.md is a kind of file, each column a door; each cell is a test. A scan in any form is
answered like the plain PNG of the same pixels; whatever is no scan is named. A dataset takes single slices only.
"""

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rewrapped import FORMS, dicom, png, stored
from scans import hospital

from medisync.dashboard import uploads
from medisync.dashboard.uploads import Sent
from medisync.data.audit import audit_hospitals
from medisync.errors import ImageError
from medisync.imaging.decoding import decode, open_scan
from medisync.inference import folders, predictor
from medisync.inference.predictor import Classifier
from medisync.project_files import ROOT
from medisync.schemas import LABELS, Prediction

SAMPLE = decode((ROOT / "medisync/dashboard/samples/glioma.png").read_bytes()).pixels
CLOSE = 0.1
"""Largest difference of a probability from the plain PNG's: some forms are resampled, or lose a little in compression."""

Files = Mapping[str, bytes]
"""The content of the files of one scan, or of what is none, by name."""


def unnamed(files: Sequence[bytes]) -> Files:
    """Returns the files with names as a PACS writes them, without suffix."""
    return {f"IM{index:06}": data for index, data in enumerate(files)}


def pair(files: Sequence[bytes]) -> Files:
    return dict(zip(("brain.hdr", "brain.img"), files, strict=True))


def jpeg() -> bytes:
    (data,) = FORMS["JPEG, quality 95"](SAMPLE)
    return data


def archive(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return stream.getvalue()


NAMES: Mapping[str, Callable[[], Files]] = {
    "JPEG named .jfif": lambda: {"scan.jfif": jpeg()},
    "PNG named .JPG": lambda: {"SCAN.JPG": png(SAMPLE)[0]},
    "JPEG without suffix": lambda: {"scan": jpeg()},
    "DICOM named .IMA": lambda: {"MR.0001.0001.2026.IMA": dicom(stored(SAMPLE))},
    "DICOM named .dicom": lambda: {"scan.dicom": dicom(stored(SAMPLE))},
    "DICOM named .jpg": lambda: {"scan.jpg": dicom(stored(SAMPLE))},
    "name in decomposed Unicode": lambda: {"cafe\u0301.png": png(SAMPLE)[0]},
}
"""Scans whose names say nothing, or something wrong."""

NO_SCANS: Mapping[str, tuple[Callable[[], Files], str]] = {
    "text": (lambda: {"notes": b"glioma, left\n"}, "text file|not an image"),
    "PDF": (lambda: {"report": b"%PDF-1.7\n" + b"x" * 99}, "PDF"),
    "empty file": (lambda: {"scan": b""}, "empty"),
    "7z archive": (lambda: {"scans.7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 99}, "archive"),
    "MATLAB file": (lambda: {"1.mat": b"MATLAB 7.3 MAT-file, Platform: " + b"\0" * 600}, "MATLAB"),
    "header without its pixels": (lambda: {"brain.hdr": FORMS["Analyze pair"](SAMPLE)[0]}, "pair"),
    "DICOM file without pixels": (lambda: {"SR1": dicom(stored(SAMPLE), PixelData=None)}, "image|pixels"),
}
"""Files that are no scans, with what the reason that is given says."""

SCANS: Mapping[str, Callable[[], Files]] = {
    **{
        name: (lambda form=form, name=name: (pair if "pair" in name else unnamed)(form(SAMPLE)))
        for name, form in FORMS.items()
    },
    **NAMES,
}


@cache
def published() -> Classifier:
    return predictor.open_run(ROOT / "models")


@cache
def plain() -> Prediction:
    return predictor.predict(published(), png(SAMPLE)[0])


NOT_IN_DATASETS: Mapping[str, str] = {
    **dict.fromkeys(
        ("TIFF stack", "DICOM, Siemens mosaic", "DICOM, three frames", "DICOM, enhanced multi-frame"), "volume"
    ),
    **dict.fromkeys(("NIfTI, axial", "NIfTI, compressed", "NIfTI, pixels 1.55 : 1"), "volume"),
    "NIfTI, coronal slices of 4 mm": "volume",
    **dict.fromkeys(("NIfTI pair", "Analyze pair"), "pair"),
}
"""Scans of several slices or files, with what the audit says of them: of a dataset each file is one slice."""

Answer = tuple[list[str], str]
Answers = tuple[list[Prediction], str]
"""The predictions, and everything that is said of what was not predicted."""


def predict(paths: Sequence[Path]) -> Answers:
    found = folders.find_scans(paths)
    results = list(folders.predict_scans(published(), found.scans))
    problems = [result.problem for result in results if result.prediction is None]
    return [result.prediction for result in results if result.prediction], "; ".join([*problems, str(found.left_out)])


def written(files: Files, folder: Path) -> list[Path]:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def named_files(files: Files, folder: Path) -> Answers:
    return predict(written(files, folder / "files"))


def one_folder(files: Files, folder: Path) -> Answers:
    written(files, folder / "files")
    return predict([folder / "files"])


def zip_file(files: Files, folder: Path) -> Answers:
    (folder / "scans.zip").write_bytes(archive(files))
    return predict([folder / "scans.zip"])


def sent(files: Files) -> Answers:
    found, left_out = uploads.expand([Sent(name, name, data) for name, data in files.items()])
    predictions, problems = [], [str(left_out)]
    for upload in found:
        try:
            if upload.problem:
                raise ImageError(upload.problem)
            decoded = open_scan(upload.files).decode()
            predictions.append(predictor.standardise_and_predict(published(), decoded)[1])
        except ImageError as problem:
            problems.append(str(problem))
    return predictions, "; ".join(problems)


def upload(files: Files, folder: Path) -> Answers:
    return sent(files)


def uploaded_archive(files: Files, folder: Path) -> Answers:
    return sent({"scans.zip": archive(files)})


DOORS: Mapping[str, Callable[[Files, Path], Answers]] = {
    "predict FILE": named_files,
    "predict FOLDER": one_folder,
    "predict ZIP": zip_file,
    "upload": upload,
    "upload of a ZIP": uploaded_archive,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("files", SCANS.values(), ids=SCANS)
def test_a_scan_in_any_form_is_answered_like_the_plain_png(
    files: Callable[[], Files], door: Callable[[Files, Path], Answers], tmp_path: Path
) -> None:
    predictions, said = door(files(), tmp_path)
    (prediction,) = predictions or pytest.fail(said)
    found, expected = ([each.probabilities[label] for label in LABELS] for each in (prediction, plain()))
    assert prediction.label == plain().label
    assert np.allclose(found, expected, atol=CLOSE)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(("files", "reason"), NO_SCANS.values(), ids=NO_SCANS)
def test_what_is_no_scan_is_named(
    files: Callable[[], Files], reason: str, door: Callable[[Files, Path], Answers], tmp_path: Path
) -> None:
    predictions, said = door(files(), tmp_path)
    assert not predictions
    assert re.search(reason, said)


def audited(files: Files, folder: Path) -> Answer:
    """Returns how an audit takes the files in a class folder of a hospital, and everything that it says."""
    north = hospital("North", "north")
    (folder / "north").mkdir()
    written(files, folder / "north/glioma")
    record = audit_hospitals([north], folder)
    said = [*record.hospitals["North"].skipped, *(image.reason for image in record.images)]
    return [image.status for image in record.images], "; ".join(said)


@pytest.mark.parametrize("name", SCANS)
def test_a_dataset_takes_single_slices_and_names_what_it_leaves_out(name: str, tmp_path: Path) -> None:
    files = SCANS[name]()
    statuses, said = audited(files, tmp_path)
    if name not in NOT_IN_DATASETS:
        assert statuses == ["ok"] * len(files)
    else:
        assert set(statuses) == {"unreadable"}
        assert re.search(NOT_IN_DATASETS[name], said)


@pytest.mark.parametrize(("files", "reason"), NO_SCANS.values(), ids=NO_SCANS)
def test_a_dataset_names_what_is_no_scan(files: Callable[[], Files], reason: str, tmp_path: Path) -> None:
    statuses, said = audited(files(), tmp_path)
    assert "ok" not in statuses
    assert re.search(rf"{reason}|not an image", said)


def test_an_archive_in_an_archive_is_named_beside_the_scans(tmp_path: Path) -> None:
    nested = {"inner.zip": archive({"a.png": png(SAMPLE)[0]}), "b.png": png(SAMPLE)[0]}
    for door in (one_folder, zip_file, uploaded_archive):
        (tmp_path / door.__name__).mkdir()
        predictions, said = door(nested, tmp_path / door.__name__)
        assert len(predictions) == 1
        assert "inner.zip" in said


def table() -> str:
    """Returns the table of docs/reliability.md."""
    lines = [f"| kind | {' | '.join(DOORS)} | dataset |", "| --- |" + " --- |" * (len(DOORS) + 1)]
    for name in SCANS:
        dataset = f"left out: {NOT_IN_DATASETS[name]}" if name in NOT_IN_DATASETS else "read"
        lines.append(f"| {name} |" + " read |" * len(DOORS) + f" {dataset} |")
    lines += [f"| {name} |" + " named |" * (len(DOORS) + 1) for name in NO_SCANS]
    return "\n".join(lines)


def test_the_documentation_has_this_table() -> None:
    assert table() in (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
