"""Many scans: found by content, predicted in batches, slice by slice where that is wanted."""

from pathlib import Path

import numpy as np
import pytest
from bad_inputs import archive, dicom, encoded, nifti, pair
from pydicom.uid import generate_uid
from scans import save, texture

from medisync.errors import DataError
from medisync.imaging.scan_files import single_file
from medisync.inference import folders
from medisync.inference.folders import EVERY, find_scans, predict_scans
from medisync.inference.predictor import Classifier, predict


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def volume(blank: int | None = None) -> bytes:
    """Returns three slices, one of which, from 1, may be black."""
    slices = np.stack([texture(k, 96) for k in range(3)], axis=2).astype(np.float32)
    if blank:
        slices[..., blank - 1] = 0
    return nifti(slices)


def test_a_file_in_a_folder_gets_the_prediction_of_an_upload(untrained: Classifier, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}.png", texture(seed, 150)) for seed in range(70)]  # two batches, all cores
    results = list(predict_scans(untrained, map(single_file, paths)))
    assert [result.scan.name for result in results] == list(map(str, paths))
    for seed in (0, 69):
        alone = predict(untrained, encoded(texture(seed, 150)))
        together = results[seed].prediction
        assert together is not None
        assert together.label == alone.label
        assert together.confidence == pytest.approx(alone.confidence, abs=0.02)  # bfloat16 batches round differently


def test_a_file_that_is_not_an_image_has_a_reason_instead_of_a_prediction(
    untrained: Classifier, tmp_path: Path
) -> None:
    good = save(tmp_path / "good.png", texture(1))
    bad = write(tmp_path / "bad.png", b"no image")
    results = list(predict_scans(untrained, map(single_file, [bad, tmp_path / "gone.png", good])))
    assert [result.prediction is None for result in results] == [True, True, False]
    assert "not an image" in results[0].problem
    assert results[1].problem == "cannot be read: No such file or directory"


def test_scans_are_found_in_folders_archives_and_among_files(tmp_path: Path) -> None:
    uid = generate_uid()
    for number in range(2):
        write(tmp_path / f"CD/SE1/IM{number}", dicom(SeriesInstanceUID=uid, InstanceNumber=number))
    save(tmp_path / "CD/a.JPG", texture(1))
    write(tmp_path / "CD/notes.txt", b"text")
    packed = write(tmp_path / "b.dat", archive({"in/IM1": dicom(), "notes": b"text", ".DS_Store": b"x"}))
    named = write(tmp_path / "other.txt", b"text")
    found = find_scans([named, tmp_path / "CD", packed])
    assert [scan.name.removeprefix(f"{tmp_path}/") for scan in found.scans] == [
        "other.txt", "CD/a.JPG", "CD/SE1 (2 slices)", "b.dat: in/IM1"
    ]  # fmt: skip
    assert found.left_out.counts == {"text file": 2, "hidden or system file": 1}
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_scans([tmp_path / "nowhere"])


def test_an_archive_that_is_refused_has_a_row_with_the_reason(untrained: Classifier, tmp_path: Path) -> None:
    packed = write(tmp_path / "b.zip", archive({"../a.png": b"x"}))
    (result,) = predict_scans(untrained, find_scans([packed]).scans)
    assert result.problem == "the archive has members with paths outside it (..), so nothing was unpacked"


def test_files_that_are_named_one_by_one_belong_together_as_in_a_folder(tmp_path: Path) -> None:
    uid = generate_uid()
    paths = [write(tmp_path / str(number), dicom(SeriesInstanceUID=uid, InstanceNumber=number)) for number in range(3)]
    (scan,) = find_scans(paths).scans
    assert len(scan.entries) == 3


@pytest.mark.parametrize("named", [["b.HDR"], ["B.img"], ["b.HDR", "B.img"]])
def test_either_file_of_a_pair_brings_the_other(tmp_path: Path, named: list[str]) -> None:
    header, pixels = pair()
    write(tmp_path / "b.HDR", header)
    write(tmp_path / "B.img", pixels)
    (scan,) = find_scans([tmp_path / name for name in named]).scans
    assert scan.read() == [header, pixels]


def test_a_slice_is_predicted_by_its_number_and_every_slice_has_its_own_prediction(
    untrained: Classifier, tmp_path: Path
) -> None:
    scans = [single_file(write(tmp_path / "a.nii", volume(blank=3))), single_file(save(tmp_path / "b.png", texture(9)))]
    second = list(predict_scans(untrained, scans, 2))
    assert [result.prediction and result.prediction.slice_number for result in second] == [2, None]
    assert second[1].problem == "slice 2 was asked for, the file has 1"
    every = list(predict_scans(untrained, scans, EVERY))
    assert [(result.scan.name[-5:], result.slice_number, result.slices) for result in every] == [
        ("a.nii", 1, 3), ("a.nii", 2, 3), ("a.nii", 3, 3), ("b.png", 1, 1)
    ]  # fmt: skip
    assert "no content" in every[2].problem
    assert every[1].prediction is not None
    assert second[0].prediction is not None
    assert every[1].prediction.probabilities == pytest.approx(second[0].prediction.probabilities, abs=0.02)


def test_a_scan_that_cannot_be_opened_has_one_row_in_every_slice(untrained: Classifier, tmp_path: Path) -> None:
    (result,) = predict_scans(untrained, [single_file(write(tmp_path / "a.nii", volume()[:600]))], EVERY)
    assert result.problem
    assert result.slice_number is None


def test_batches_may_end_within_a_volume(
    untrained: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "BATCH", 2)
    scans = [single_file(write(tmp_path / f"{k}.nii", volume())) for k in range(2)]
    assert [result.slice_number for result in predict_scans(untrained, scans, EVERY)] == [1, 2, 3, 1, 2, 3]
