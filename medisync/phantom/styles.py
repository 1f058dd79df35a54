"""The styles of the three synthetic hospitals: folder layout, class mix and scanner."""

from collections.abc import Mapping
from dataclasses import dataclass

from medisync.phantom.shapes import Contrast
from medisync.schemas import Label


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
