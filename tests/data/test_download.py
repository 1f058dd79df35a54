"""The download without Kaggle: conversion of the MATLAB files, and folders that appear whole or not at all."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from medisync.data import download
from medisync.data.discovery import discover
from medisync.data.download import Source
from medisync.errors import DataError


def write_slice(file: Path, label: int, patient: str, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        group = content.create_group("cjdata")
        group["image"] = pixels.T  # MATLAB's order
        group["label"] = np.array([[label]], float)
        group["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, (48, 40)).astype(np.int16)


def test_matlab_slices_become_class_folders_and_a_list_of_patients(tmp_path: Path) -> None:
    for number, (label, patient) in enumerate([(1, "100360"), (2, "100360"), (3, "MR01")], start=1):
        write_slice(tmp_path / "in/dataset/data" / f"{number}.mat", label, patient, pixels(number))
    (tmp_path / "in/dataset/cvind.mat").write_bytes(b"not a slice")
    download.convert_figshare(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/patients.csv").read_text().splitlines() == [
        "path,patient",
        "meningioma/1.png,100360",
        "glioma/2.png,100360",
        "pituitary tumor/3.png,MR01",
    ]
    with Image.open(tmp_path / "out/glioma/2.png") as image:
        assert np.array_equal(np.asarray(image), pixels(2))  # 16 bits, upright, nothing lost


def test_a_file_in_another_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "7.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"7\.mat: not a slice of Figshare 1512427"):
        download.convert_figshare(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match=r"expected files 1\.mat"):
        download.convert_figshare(tmp_path / "out", tmp_path / "elsewhere")


def test_versions_are_pinned_and_folders_match_the_notebook() -> None:
    from medisync import notebook

    assert all(source.handle.split("/")[2] == "versions" for source in download.SOURCES.values())
    roots = {hospital.path.split("/")[0] for hospital in notebook.configuration().hospitals}
    assert download.SOURCES.keys() == roots


def test_a_folder_with_files_is_left_unchanged_and_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(downloaded: Path, target: Path) -> None:
        target.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_fetch", lambda handle: tmp_path / "cache")
    monkeypatch.setattr(download, "SOURCES", {"dataset-1": Source("a/b/versions/1", interrupted)})
    (tmp_path / "dataset/dataset-1").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        download.download_datasets(tmp_path / "dataset")
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["dataset-1"]
    assert list((tmp_path / "dataset/dataset-1").iterdir()) == []
    (tmp_path / "dataset/dataset-1/scan.png").touch()
    download.download_datasets(tmp_path / "dataset")
    assert [path.name for path in (tmp_path / "dataset/dataset-1").iterdir()] == ["scan.png"]


def test_the_audit_finds_downloaded_images(tmp_path: Path) -> None:
    from medisync import notebook

    write_slice(tmp_path / "in/1.mat", 3, "P1", pixels(1))
    download.convert_figshare(tmp_path / "in", tmp_path / "dataset/dataset-2")
    (hospital,) = (each for each in notebook.configuration().hospitals if each.path == "dataset-2")
    (file,) = discover(hospital, tmp_path / "dataset").files
    assert (file.label, file.patient) == ("pituitary", "P1")
