"""Writes three synthetic hospitals in the folder layouts of the real ones, for the demo and the tests.

All images are drawn: no pixel comes from a person. The data also have the faults of the real collections, and
`write_hospitals` returns a list of them, so that the audit can be checked against the truth.
"""

import csv
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medisync.errors import DataError
from medisync.phantom.scanner import PhantomSlice, draw_patient
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS, PHANTOM_MARKER, Label

STRAY_FOLDER = "brain_other"
"""A folder of dataset-3 that is not in the class map."""


@dataclass(frozen=True)
class Case:
    """One patient, and the paths of the slices relative to the dataset folder."""

    dataset_id: str
    label: Label
    patient: str
    paths: tuple[str, ...]
    key: tuple[int, int, int]
    """Seed, hospital and patient: the seed of the random generator."""

    def draw(self) -> tuple[PhantomSlice, ...]:
        """Draws the slices of `paths`, before JPEG compression."""
        generator = np.random.default_rng(self.key)
        return draw_patient(self.label, style=STYLES[self.dataset_id], generator=generator, slices=len(self.paths))


@dataclass(frozen=True)
class Copy:
    """An image that repeats the slice of another one."""

    path: str
    source: str
    mirrored: bool


@dataclass(frozen=True)
class Planted:
    """All faults in the data; paths are relative to the dataset folder."""

    neighbours: tuple[tuple[str, ...], ...]
    """Slices of one patient; only dataset-2 declares them, in its `patients.csv`."""
    copies: tuple[Copy, ...]
    """Images of dataset-1 that repeat slices of dataset-2: resized, re-encoded, many mirrored."""
    conflicts: tuple[tuple[str, str], ...]
    """Pairs of byte-identical images under two labels."""
    truncated: str
    not_image: str
    unmapped: tuple[str, ...]


def cases(seed: int, scale: float = 1.0) -> tuple[Case, ...]:
    """Returns all patients that `write_hospitals` draws with this seed and scale, at least four of each class."""
    return tuple(case for index, dataset_id in enumerate(STYLES) for case in _cases_of(dataset_id, index, seed, scale))


def _cases_of(dataset_id: str, index: int, seed: int, scale: float) -> list[Case]:
    style = STYLES[dataset_id]
    folders = [(folder, label, max(4, round(patients * scale))) for folder, (label, patients) in style.folders.items()]
    if dataset_id == "dataset-3":
        folders.append((STRAY_FOLDER, "glioma", 4))
    # Patients count from 1: NumPy pads seeds with zeros, so that patient 0 would have this seed.
    generator = np.random.default_rng((seed, index))
    drawn_cases: list[Case] = []
    number = 0
    for folder, label, patients in folders:
        for _ in range(patients):
            patient = len(drawn_cases) + 1
            slices = int(generator.integers(*style.slices, endpoint=True))
            names = [style.file_name.format(folder=folder, number=number + k + 1) for k in range(slices)]
            paths = tuple(f"{style.root}/{folder}/{name}" for name in names)
            drawn_cases.append(Case(dataset_id, label, f"PH{patient:04d}", paths, (seed, index, patient)))
            number += slices
    return drawn_cases


def write_hospitals(dataset: Path, *, seed: int, scale: float = 1.0) -> Planted:
    """Writes the three hospitals and the marker under `dataset`; if interrupted, writes nothing.

    There are about 1000 images at `scale` 1. The same seed writes the same bytes. Raises DataError if one of the
    hospitals' folders holds files, or the marker exists.
    """
    for name in (*STYLES, PHANTOM_MARKER):
        _refuse_existing(dataset / name)
    dataset.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".phantom-", dir=dataset) as staging:
        planted = _write(Path(staging), seed, scale)
        for name in (*STYLES, PHANTOM_MARKER):
            Path(staging, name).replace(dataset / name)
    return planted


def _refuse_existing(target: Path) -> None:
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise DataError(f"{target} already exists; choose an empty dataset folder for the synthetic hospitals")


def _write(root: Path, seed: int, scale: float) -> Planted:
    drawn = cases(seed, scale)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda case: _write_case(root, case), drawn))
    _write_patients(root, drawn)
    planted = _plant(root, drawn, np.random.default_rng((seed, len(STYLES))))
    marker = {"synthetic": True, "seed": seed, "generator": "medisync.phantom"}
    (root / PHANTOM_MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
    return planted


def _write_case(root: Path, case: Case) -> None:
    style = STYLES[case.dataset_id]
    mode = "RGB" if np.random.default_rng((*case.key, 1)).random() < style.colour else "L"
    for path, drawn in zip(case.paths, case.draw(), strict=True):
        _save(Image.fromarray(drawn.image).convert(mode), root / path, style.quality)


def _save(image: Image.Image, path: Path, quality: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=quality)


def _write_patients(root: Path, drawn: tuple[Case, ...]) -> None:
    folder = STYLES["dataset-2"].root
    with (root / folder / "patients.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "patient"))
        for case in drawn:
            if case.dataset_id == "dataset-2":
                rows.writerows((path.removeprefix(f"{folder}/"), case.patient) for path in case.paths)


def _plant(root: Path, drawn: tuple[Case, ...], generator: np.random.Generator) -> Planted:
    """Adds faulty files; neighbouring slices were already written."""
    copies = _plant_copies(root, drawn, generator)
    first = {label: next(case.paths[0] for case in drawn if case.label == label) for label in LABELS}  # in dataset-1
    conflict = (first["meningioma"], _beside(first["glioma"], "Te-gl_0001.jpg"))
    (root / conflict[1]).write_bytes((root / conflict[0]).read_bytes())
    truncated = _beside(first["notumor"], "Te-no_0001.jpg")
    whole = (root / first["notumor"]).read_bytes()
    (root / truncated).write_bytes(whole[: len(whole) // 2])
    not_image = _beside(first["pituitary"], "Te-pi_0001.jpg")
    (root / not_image).write_text("<html><title>404 Not Found</title></html>\n", encoding="utf-8")
    return Planted(
        neighbours=tuple(case.paths for case in drawn if len(case.paths) > 1),
        copies=copies,
        conflicts=(conflict,),
        truncated=truncated,
        not_image=not_image,
        unmapped=tuple(path for case in drawn for path in case.paths if STRAY_FOLDER in path),
    )


def _beside(path: str, name: str) -> str:
    return f"{path.rpartition('/')[0]}/{name}"


def _plant_copies(root: Path, drawn: tuple[Case, ...], generator: np.random.Generator) -> tuple[Copy, ...]:
    """Copies a few slices of dataset-2 to dataset-1, two in three of them mirrored."""
    sources = [(path, case.label) for case in drawn if case.dataset_id == "dataset-2" for path in case.paths]
    chosen = generator.choice(len(sources), size=max(4, len(sources) // 10), replace=False)
    copies = []
    for number, (source, label) in enumerate((sources[index] for index in sorted(chosen)), start=2):
        copy = Copy(f"dataset-1/{label}/Te-{label:.2}_{number:04d}.jpg", source, mirrored=number % 3 > 0)
        _republish(root / source, root / copy.path, copy.mirrored, int(generator.integers(180, 250)))
        copies.append(copy)
    return tuple(copies)


def _republish(source: Path, target: Path, mirrored: bool, size: int) -> None:
    with Image.open(source) as image:
        resized = image.resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
    _save(resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else resized, target, quality=75)
