"""Writes three synthetic hospitals in the folder layouts of the real ones, for the demo and the tests.

All images are drawn: no pixel comes from a person. The data also have the faults of the real collections, and
`write_hospitals` returns a list of them, so that the audit can be checked against the truth.
"""

import csv
import json
import math
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medisync.errors import DataError
from medisync.phantom.anatomy import SELLAR_LEVEL, Contrast, Drawing, Field, Mask, draw, sample_anatomy, sample_lesion
from medisync.schemas import LABELS, PHANTOM_MARKER, Label

SLICE_DISTANCE = 0.1
"""Distance between slices: about 7 mm, as in dataset-2. From the basal ganglia to the vertex it is 1."""

STRAY_FOLDER = "brain_other"
"""A folder of dataset-3 that is not in the class map."""


@dataclass(frozen=True)
class HospitalStyle:
    """The layout, class mix and scanner of one hospital; none of the scanner's properties depends on the class."""

    root: str
    """Folder of the class folders, relative to the dataset folder."""
    folders: Mapping[str, tuple[Label, int]]
    """Label of each class folder, and its number of patients at scale 1."""
    file_name: str
    slices: tuple[int, int]
    """Smallest and largest number of slices per patient."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width in pixels."""
    contrasts: Mapping[Contrast, float]
    """Fraction of scans with each contrast."""
    fill: tuple[float, float]
    """Smallest and largest length of the head, as a fraction of the image's height."""
    brightness: float
    """Mean intensity inside the head, in [0, 1]; the same for every class."""
    noise: float
    """Standard deviation of each channel of the Rician noise, in [0, 1]."""
    bias: float
    """Standard deviation of the coefficients of the log gain across the field."""
    blur: float
    """Standard deviation of the point spread, in pixels."""
    colour: float
    """Fraction of files that store grey as RGB."""
    quality: int
    """JPEG quality."""


STYLES: Mapping[str, HospitalStyle] = {
    "dataset-1": HospitalStyle(
        root="dataset-1",
        folders={
            "glioma": ("glioma", 85),
            "meningioma": ("meningioma", 85),
            "pituitary": ("pituitary", 90),
            "notumor": ("notumor", 130),
        },
        file_name="Tr-{folder:.2}_{number:04d}.jpg",
        slices=(1, 1),
        sizes=((225, 225), (256, 256), (252, 200), (236, 236), (217, 232), (240, 210)),
        contrasts={"T1c": 1.0},
        fill=(0.84, 0.96),
        brightness=0.38,
        noise=0.018,
        bias=0.10,
        blur=0.6,
        colour=1.0,
        quality=88,
    ),
    "dataset-2": HospitalStyle(
        root="dataset-2",
        folders={"glioma": ("glioma", 46), "meningioma": ("meningioma", 24), "pituitary tumor": ("pituitary", 30)},
        file_name="{number}.jpg",
        slices=(2, 5),
        sizes=((256, 256),),
        contrasts={"T1c": 1.0},
        fill=(0.74, 0.88),
        brightness=0.29,
        noise=0.012,
        bias=0.18,
        blur=0.8,
        colour=0.0,
        quality=92,
    ),
    "dataset-3": HospitalStyle(
        root="dataset-3/Brain_Cancer raw MRI data/Brain_Cancer",
        folders={"brain_glioma": ("glioma", 54), "brain_menin": ("meningioma", 44), "brain_tumor": ("pituitary", 10)},
        file_name="{folder}_{number:04d}.jpg",
        slices=(1, 3),
        sizes=((256, 256), (256, 223), (256, 204), (256, 220)),
        contrasts={"T1c": 0.6, "T1": 0.2, "T2": 0.2},
        fill=(0.78, 0.94),
        brightness=0.33,
        noise=0.032,
        bias=0.28,
        blur=0.9,
        colour=0.4,
        quality=85,
    ),
}


@dataclass(frozen=True)
class PhantomSlice:
    """A slice as a scanner would show it (uint8 [H, W]), and its true regions (bool [H, W] each)."""

    image: NDArray[np.uint8]
    mask: Mask
    """Tumour without the surrounding oedema; empty for `notumor`."""
    lesion: Mask
    """Tumour with the oedema."""
    brain: Mask
    head: Mask
    label: Label


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


def draw_slice(label: Label, *, style: HospitalStyle, generator: np.random.Generator) -> PhantomSlice:
    """Draws one slice of a new patient."""
    return draw_patient(label, style=style, generator=generator, slices=1)[0]


def draw_patient(
    label: Label, *, style: HospitalStyle, generator: np.random.Generator, slices: int
) -> tuple[PhantomSlice, ...]:
    """Draws neighbouring slices of a new patient: alike, never identical."""
    # Pituitary tumours appear only at the sella, so other classes are drawn there too: the level is not a clue.
    sellar = label == "pituitary" or generator.random() < 0.35
    middle = SELLAR_LEVEL if sellar else generator.uniform(0.25, 0.75)
    anatomy = sample_anatomy(generator)
    lesion = sample_lesion(label, sellar=sellar, anatomy=anatomy, generator=generator)
    scan = _sample_scan(style, generator)
    drawn = []
    for number in range(slices):
        step = number - (slices - 1) / 2
        cut = lesion and lesion.cut(step)
        x, y = scan.coordinates(zoom=1 + 0.012 * step)
        drawing = draw(anatomy, cut, scan.contrast, x, y, middle + SLICE_DISTANCE * step)
        image = _acquire(drawing, scan, style, generator)
        drawn.append(PhantomSlice(image, drawing.tumour, drawing.lesion, drawing.brain, drawing.head, label))
    return tuple(drawn)


@dataclass(frozen=True)
class Scan:
    """The settings that all slices of one examination share; lengths in pixels, angle in radians."""

    size: tuple[int, int]
    half_length: float
    middle: tuple[float, float]
    angle: float
    contrast: Contrast
    brightness: float
    sensitivity: Field
    """Gain of the coil, [H, W]."""

    def coordinates(self, zoom: float) -> tuple[Field, Field]:
        """Returns the head coordinates x and y of each pixel, [H, W] each."""
        rows, columns = np.indices(self.size, dtype=np.float32)
        down = (rows - self.middle[0]) / (self.half_length * zoom)
        right = (columns - self.middle[1]) / (self.half_length * zoom)
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        return right * cosine + down * sine, down * cosine - right * sine


def _sample_scan(style: HospitalStyle, generator: np.random.Generator) -> Scan:
    height, width = style.sizes[generator.integers(len(style.sizes))]
    half_length = min(height, 1.15 * width) / 2 * generator.uniform(*style.fill)
    down, right = (half_length * generator.uniform(-0.03, 0.03, 2)).tolist()
    contrasts = list(style.contrasts)
    return Scan(
        size=(height, width),
        half_length=half_length,
        middle=(height / 2 + down, width / 2 + right),
        angle=generator.normal(0, 0.07),
        contrast=contrasts[generator.choice(len(contrasts), p=list(style.contrasts.values()))],
        brightness=style.brightness * math.exp(generator.normal(0, 0.1)),
        sensitivity=_sensitivity(height, width, style.bias, generator),
    )


def _sensitivity(height: int, width: int, bias: float, generator: np.random.Generator) -> Field:
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    right = np.linspace(-1, 1, width, dtype=np.float32)
    tilt, lean, bowl = generator.normal(0, bias, 3).tolist()
    return np.exp(tilt * right + lean * down + bowl * (right**2 + down**2))


def _acquire(drawing: Drawing, scan: Scan, style: HospitalStyle, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Simulates the scanner: tissue grain, coil sensitivity, point spread, gain and Rician noise.

    Noise model: Gudbjartsson and Patz 1995, https://doi.org/10.1002/mrm.1910340618
    """
    grain = ndimage.gaussian_filter(generator.standard_normal(scan.size, dtype=np.float32), 1.2)
    signal = ndimage.gaussian_filter(drawing.intensity * (1 + 0.12 * grain) * scan.sensitivity, style.blur)
    signal *= scan.brightness / signal[drawing.head].mean()
    real, imaginary = style.noise * generator.standard_normal((2, *scan.size), dtype=np.float32)
    return np.rint(np.clip(np.hypot(signal + real, imaginary), 0, 1) * 255).astype(np.uint8)


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
