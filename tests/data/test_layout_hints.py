"""What the audit says when a hospital's images are not where they were expected."""

from pathlib import Path

import pytest
from scans import hospital, save, texture

from medisync.data import audit
from medisync.errors import DataError

HOSPITALS = (hospital("North", "data-1/inner/scans"), hospital("South", "data-2"))


def refusal(dataset: Path, *files: str) -> str:
    """Returns what is said of North; South has its image."""
    save(dataset / "data-2/glioma/1.png", texture(1))
    for name in files:
        if name.endswith(".png"):
            save(dataset / name, texture(len(name)))
        else:
            (dataset / name).parent.mkdir(parents=True, exist_ok=True)
            (dataset / name).write_bytes(b"anything")
    record = audit.audit_hospitals(HOSPITALS, dataset)
    with pytest.raises(DataError) as error:
        audit.require_images(record, HOSPITALS, dataset)
    (said,) = (line for line in str(error.value).splitlines() if line.strip().startswith("North:"))
    start = f"  North: {dataset}/data-1/inner/scans/ with a folder named glioma or meningioma or no tumor; "
    assert said.startswith(start)
    return said.removeprefix(start)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["data-1/glioma/a.png", "data-1/no_tumor/b.png"], "class folders ('glioma', 'no_tumor') are in 'data-1'"),
        (
            ["data-1/scans/glioma/a.png"],
            "class folders ('glioma') are in 'data-1/scans': move them to 'data-1/inner/scans'",
        ),
        (["kaggle/Training/glioma/a.png", "kaggle/Testing/glioma/b.png"], "class folders ('glioma') are in 'kaggle'"),
        (["glioma/a.png"], "class folders ('glioma') are in the dataset folder itself"),
        (["../scans/glioma/a.png"], "class folders ('glioma') are in '../scans'"),
        (["archive.zip"], "'archive.zip' is not unpacked: unpack it into 'data-1/inner/scans'"),
        (["data-1/inner/scans/all.tar.gz"], "'data-1/inner/scans/all.tar.gz' is not unpacked"),
        (["data-1/inner/a.rar", "b.7z"], "'b.7z', 'data-1/inner/a.rar' are not unpacked: unpack this hospital's"),
        (["data-1/inner/scans/1.mat"], "MATLAB files (.mat), as Figshare offers them, are not read"),
        (["Data-1/inner/scans/brain_t/a.png"], "found 'Data-1', not 'data-1': rename it"),
        (["data-1/Inner/scans/brain_t/a.png"], "found 'Inner', not 'inner': rename it"),
        (["data-1/inner/scans/glioma_tumor/a.png"], "if it holds glioma, add 'glioma_tumor': 'glioma' to `class_map`"),
        (["data-1/inner/scans/Training/no/a.png"], "if it holds notumor, add 'no': 'notumor' to `class_map`"),
        (["data-1/inner/scans/yes/a.png"], "its name does not say which tumour"),
        (["data-1/inner/scans/glyoma/a.png"], "if it is 'glioma', rename it or add 'glyoma': 'glioma'"),
        (
            ["data-1/inner/scans/a.png", "data-1/inner/scans/bb.png"],
            "2 images left out: directly in the dataset's folder",
        ),
        (["data-1/inner/scans/glioma/cut.jpg"], "1 unreadable: `medisync audit` says why for each file"),
        (["data-1/inner/scans/readme.txt"], "found 'readme.txt'"),
        (["other/readme.txt"], "there is no such folder; found 'data-2', 'other'"),
    ],
)
def test_what_was_found_nearby_is_said(tmp_path: Path, files: list[str], said: str) -> None:
    assert said in refusal(tmp_path / "dataset", *files)


def test_the_folder_of_another_hospital_is_not_suggested(tmp_path: Path) -> None:
    assert "data-2" not in refusal(tmp_path / "dataset").replace("found 'data-2'", "")


def test_an_empty_workspace_is_told_how_to_get_images(tmp_path: Path) -> None:
    record = audit.audit_hospitals(HOSPITALS, tmp_path)
    with pytest.raises(DataError, match="the dataset folder is empty: `medisync download`"):
        audit.require_images(record, HOSPITALS, tmp_path)
