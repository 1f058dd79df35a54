"""Downloads the three public datasets into the hospitals' folders, pinned by version; needs `medisync[download]`.

Kaggle requires an account: see https://www.kaggle.com/docs/api for the token that `kagglehub` reads.
"""

import csv
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from medisync.errors import DataError

FIGSHARE_FOLDERS: Mapping[int, str] = {1: "meningioma", 2: "glioma", 3: "pituitary tumor"}
"""Class folder for each value of `cjdata/label` in the MATLAB files."""


@dataclass(frozen=True)
class Source:
    """A pinned dataset on Kaggle and the function that turns it into a hospital's folder."""

    handle: str
    convert: Callable[[Path, Path], None]
    """Takes the downloaded folder and the new folder."""


def download_datasets(dataset: Path) -> None:
    """Downloads each dataset whose folder is missing or empty; a folder appears whole or not at all.

    Raises DataError if the extra is not installed or the download fails.
    """
    for name, source in SOURCES.items():
        target = dataset / name
        if target.is_dir() and any(target.iterdir()):
            print(f"{target} already exists; left unchanged")
            continue
        print(f"{target} <- kaggle.com/datasets/{source.handle}", flush=True)
        _convert_whole(_fetch(source.handle), target, source.convert)


def _fetch(handle: str) -> Path:
    try:
        import kagglehub
    except ImportError:
        raise DataError("downloading needs kagglehub and h5py: pip install 'medisync[download]'") from None
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:  # kagglehub and requests share no base class for errors
        raise DataError(f"kaggle.com/datasets/{handle}: {error}; check the network and the Kaggle token") from error


def _convert_whole(downloaded: Path, target: Path, convert: Callable[[Path, Path], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as staging:
        convert(downloaded, Path(staging, "data"))
        if target.is_dir():
            target.rmdir()
        Path(staging, "data").rename(target)


def copy_tree(downloaded: Path, target: Path) -> None:
    """Copies the folder unchanged: the audit finds class folders at any depth."""
    shutil.copytree(downloaded, target)


def convert_figshare(downloaded: Path, target: Path) -> None:
    """Converts MATLAB 7.3 files with `cjdata` to one 16-bit PNG per slice in its class folder, and a list of patients.

    Raises DataError for any other file. Format: https://doi.org/10.6084/m9.figshare.1512427
    """
    files = sorted(
        (file for file in downloaded.rglob("*.mat") if file.stem.isdecimal()), key=lambda file: int(file.stem)
    )
    if not files:
        raise DataError(f"{downloaded}: expected files 1.mat, 2.mat, ..., found none")
    rows = [_convert_slice(file, target) for file in tqdm(files, desc="convert", unit="slices")]
    with (target / "patients.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "patient"), *rows])


def _convert_slice(file: Path, target: Path) -> tuple[str, str]:
    """Writes one slice and returns its path and patient."""
    import h5py

    try:
        with h5py.File(file) as content:
            slice_data = content["cjdata"]
            pixels = np.asarray(slice_data["image"]).T  # MATLAB stores columns first
            label = int(np.asarray(slice_data["label"]).item())
            patient = "".join(map(chr, np.asarray(slice_data["PID"]).ravel().tolist()))
        folder = FIGSHARE_FOLDERS[label]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{file.name}: not a slice of Figshare 1512427 ({error})") from None
    path = f"{folder}/{file.stem}.png"
    (target / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 65535).astype(np.uint16)).save(target / path)
    return path, patient


SOURCES: Mapping[str, Source] = {
    "dataset-1": Source("masoudnickparvar/brain-tumor-mri-dataset/versions/1", copy_tree),
    "dataset-2": Source("ashkhagan/figshare-brain-tumor-dataset/versions/1", convert_figshare),
    "dataset-3": Source("orvile/brain-cancer-mri-dataset/versions/1", copy_tree),
}
