"""Measures what a scan's file format costs: the published model on real scans, re-wrapped as scanners and PACS write them.

    python benchmarks/rewrapped.py --workspace DIR [--scans N]

The scans are test scans of the published run, the same number of every hospital where there are enough. Each is written as a
plain PNG and in every form of FORMS, read as an upload is, and predicted. No form should cost more than a point of accuracy.
Prints a Markdown table and writes it beside this file. The tests draw phantoms in the same forms.
"""

import argparse
import gzip
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from scipy.ndimage import label as connected

from medisync.errors import ImageError
from medisync.imaging.decoding import decode, open_scan
from medisync.imaging.intensities import Pixels
from medisync.inference import predictor
from medisync.inference.predictor import Classifier
from medisync.schemas import LABELS, Label, Prediction
from medisync.workspace import artifacts

HERE = Path(__file__).parent
AXIAL = [1, 0, 0, 0, 1, 0]
"""Rows run to the patient's left, columns to the back: the image as a radiologist sees it."""

Form = Callable[[Pixels], Sequence[bytes]]
"""Grey pixels uint8 [H, W] -> the files of one scan."""


def png(pixels: Pixels) -> list[bytes]:
    return [_encoded(pixels, "PNG")]


def _encoded(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def background(pixels: Pixels) -> NDArray[np.bool_]:
    """Returns the dark pixels that are connected with a corner."""
    regions, _ = connected(pixels < 12)
    corners = {regions[row, column] for row in (0, -1) for column in (0, -1)} - {0}
    found: NDArray[np.bool_] = np.isin(regions, list(corners))
    return found


def dicom(values: NDArray[Any], *, syntax: str = ExplicitVRLittleEndian, meta: bool = True, **fields: Any) -> bytes:
    """Returns a DICOM file of values [H, W], [N, H, W] or RGB [H, W, 3] in their own type; a field that is None is removed."""
    stream = io.BytesIO()
    file = _dataset(values, syntax, fields)
    file.save_as(stream, enforce_file_format=True)
    if meta:
        return stream.getvalue()
    bare = io.BytesIO()
    Dataset(file).save_as(
        bare, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=False
    )
    return bare.getvalue()


def _dataset(values: NDArray[Any], syntax: str, fields: Mapping[str, Any]) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = MRImageStorage, meta.MediaStorageSOPInstanceUID, "MR"
    file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(), generate_uid()
    file.PatientName, file.BurnedInAnnotation = "Nobody^Known", "NO"
    colours = values.ndim == 3 and values.shape[2] == 3
    file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if colours else (1, "MONOCHROME2")
    if colours:
        file.PlanarConfiguration = 0
    elif values.ndim == 3:
        file.NumberOfFrames = len(values)
    file.Rows, file.Columns = values.shape[:2] if values.ndim == 2 or colours else values.shape[1:]
    file.BitsAllocated = file.BitsStored = 8 * values.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    return file


def stored(pixels: Pixels) -> NDArray[np.uint16]:
    """Returns the grey levels as a scanner stores them, 0 to 4080."""
    return pixels.astype(np.uint16) * 16


def _palette(pixels: Pixels) -> list[bytes]:
    order = np.random.default_rng(0).permutation(256)
    table = {
        "PaletteColorLookupTableDescriptor": [256, 0, 16],
        "PaletteColorLookupTableData": (order * 257).astype("<u2").tobytes(),
    }
    places = np.argsort(order).astype(np.uint8)
    fields = {
        name.replace("Palette", f"{colour}Palette", 1): value
        for colour in ("Red", "Green", "Blue")
        for name, value in table.items()
    }
    return [dicom(places[pixels], PhotometricInterpretation="PALETTE COLOR", **fields)]


def _padded(pixels: Pixels) -> list[bytes]:
    values = stored(pixels).astype(np.int16)
    values[background(pixels)] = -32000
    return [dicom(values, PixelPaddingValue=-32000)]


def _non_square(pixels: Pixels) -> NDArray[np.uint8]:
    """Returns the image with 1.55 times fewer rows."""
    height, width = pixels.shape
    return np.asarray(Image.fromarray(pixels).resize((width, max(32, round(height / 1.55))), Image.Resampling.LANCZOS))


def _row_spacing(pixels: Pixels) -> float:
    return pixels.shape[0] / _non_square(pixels).shape[0]


def _mosaic(pixels: Pixels) -> list[bytes]:
    tiles = np.tile(stored(pixels), (3, 3))
    height, width = pixels.shape
    tiles[2 * height :, 2 * width :] = 0
    private = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "Manufacturer": "SIEMENS"}
    file = _dataset(tiles, ExplicitVRLittleEndian, private)
    block = file.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 8)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return [stream.getvalue()]


def _enhanced(pixels: Pixels) -> list[bytes]:
    """Returns an enhanced multi-frame file whose rescale, window and spacing stand in functional groups."""
    transform, window, measures, plane = Dataset(), Dataset(), Dataset(), Dataset()
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 2, -100, "US"
    window.WindowCenter, window.WindowWidth = 3980, 8160
    measures.PixelSpacing, measures.SliceThickness = [0.9, 0.9], 5
    plane.ImageOrientationPatient = AXIAL
    shared = Dataset()
    shared.PixelValueTransformationSequence, shared.FrameVOILUTSequence = Items([transform]), Items([window])
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([plane])
    return [dicom(np.stack(_neighbours(stored(pixels), 3)), SharedFunctionalGroupsSequence=Items([shared]))]


def _neighbours(image: NDArray[Any], count: int) -> list[NDArray[Any]]:
    """Returns slices of which the middle one is the image and the others are the image upside down."""
    return [image if index == count // 2 else image[::-1] for index in range(count)]


def _series(pixels: Pixels) -> list[bytes]:
    """Returns five files of one series, in another order than that of their positions."""
    series, slices = generate_uid(), _neighbours(stored(pixels), 5)
    return [
        dicom(
            slices[k],
            SeriesInstanceUID=series,
            ImageOrientationPatient=AXIAL,
            ImagePositionPatient=[0, 0, 5.0 * k],
            InstanceNumber=9 - k,
        )
        for k in (2, 0, 4, 1, 3)
    ]


def _as_left_posterior(pixels: NDArray[Any]) -> NDArray[Any]:
    """Returns the image [H, W] as it is stored in a NIfTI volume: first axis to the right, second to the front."""
    return pixels[::-1, ::-1].T


def nifti(values: NDArray[Any], zooms: Sequence[float] = (1, 1, 1), kind: Any = nibabel.Nifti1Image) -> bytes:
    affine = np.diag([*zooms, 1.0])
    image = kind(values, affine)
    data: bytes = image.to_bytes()
    return data


def _axial(image: NDArray[Any], zooms: Sequence[float] = (1, 1, 1)) -> bytes:
    return nifti(np.stack(_neighbours(image, 3)).transpose(0, 1, 2)[:, ::-1, ::-1].transpose(2, 1, 0), zooms)


def _coronal(pixels: Pixels) -> list[bytes]:
    """Returns a volume of coronal slices 4 mm apart: first axis to the right, second to the front, third to the top."""
    planes = [plane[::-1, ::-1].T for plane in _neighbours(stored(pixels).astype(np.int16), 7)]
    return [gzip.compress(nifti(np.stack(planes, axis=1), (1, 4, 1)))]


def _rgb24(pixels: Pixels) -> list[bytes]:
    image = _as_left_posterior(pixels)
    colour = np.zeros((*image.shape, 1), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for name in "RGB":
        colour[name][..., 0] = image
    return [nifti(colour)]


def _stripped(pixels: Pixels) -> list[bytes]:
    values = pixels.astype(np.float32)
    values[background(pixels)] = np.nan
    return [nifti(_as_left_posterior(values)[..., np.newaxis])]


def _pair(pixels: Pixels, kind: Any) -> list[bytes]:
    values = np.stack([_as_left_posterior(stored(pixels).astype(np.int16))] * 3, axis=2)
    image = kind(values, np.diag([1.0, 1, 1, 1]))
    files = {name: io.BytesIO() for name in ("header", "image")}
    image.to_file_map({name: nibabel.FileHolder(fileobj=stream) for name, stream in files.items()})
    return [stream.getvalue() for stream in files.values()]


def _tiff_stack(pixels: Pixels) -> list[bytes]:
    first, *more = [Image.fromarray(np.ascontiguousarray(each)) for each in _neighbours(pixels, 5)]
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=more)
    return [stream.getvalue()]


def _compressed(pixels: Pixels, kind: str, syntax: str, **options: Any) -> list[bytes]:
    return [dicom(pixels, syntax=syntax, PixelData=encapsulate([_encoded(pixels, kind, **options)]))]


def _run_length(pixels: Pixels) -> list[bytes]:
    file = _dataset(stored(pixels), ExplicitVRLittleEndian, {})
    file.compress(RLELossless, generate_instance_uid=False)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return [stream.getvalue()]


def _no_transfer_syntax(pixels: Pixels) -> list[bytes]:
    file = _dataset(stored(pixels), ExplicitVRLittleEndian, {})
    del file.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    file.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return [stream.getvalue()]


FORMS: Mapping[str, Form] = {
    "JPEG, quality 95": lambda pixels: [_encoded(pixels, "JPEG", quality=95)],
    "TIFF stack": _tiff_stack,
    "DICOM, 16 bit": lambda pixels: [dicom(stored(pixels))],
    "DICOM, no preamble, implicit VR": lambda pixels: [
        dicom(stored(pixels), syntax=ImplicitVRLittleEndian, meta=False)
    ],
    "DICOM, no transfer syntax": _no_transfer_syntax,
    "DICOM, deflated": lambda pixels: [dicom(stored(pixels), syntax=DeflatedExplicitVRLittleEndian)],
    "DICOM, run-length": _run_length,
    "DICOM, JPEG": lambda pixels: _compressed(pixels, "JPEG", JPEGBaseline8Bit, quality=95),
    "DICOM, JPEG 2000": lambda pixels: _compressed(pixels, "JPEG2000", JPEG2000Lossless, no_jp2=True),
    "DICOM, palette": _palette,
    "DICOM, RGB": lambda pixels: [dicom(np.stack([pixels] * 3, axis=2))],
    "DICOM, float": lambda pixels: [
        dicom(stored(pixels).astype(np.float32), PixelData=None, FloatPixelData=stored(pixels).astype("<f4").tobytes())
    ],
    "DICOM, signed, rescaled, windowed": lambda pixels: [
        dicom(
            stored(pixels).astype(np.int16) - 1024,
            RescaleSlope=2,
            RescaleIntercept=100,
            WindowCenter=2132,
            WindowWidth=8160,
        )
    ],
    "DICOM, window in stored values (Philips)": lambda pixels: [
        dicom(
            stored(pixels),
            RescaleSlope=6.4,
            RescaleIntercept=0,
            WindowCenter=2040,
            WindowWidth=4080,
            Manufacturer="Philips",
        )
    ],
    "DICOM, window that misses all": lambda pixels: [dicom(stored(pixels), WindowCenter=30000, WindowWidth=100)],
    "DICOM, window that clips the head": lambda pixels: [dicom(stored(pixels), WindowCenter=200, WindowWidth=300)],
    "DICOM, pixel padding": _padded,
    "DICOM, MONOCHROME1": lambda pixels: [dicom(4080 - stored(pixels), PhotometricInterpretation="MONOCHROME1")],
    "DICOM, pixels 1.55 : 1": lambda pixels: [
        dicom(stored(_non_square(pixels)), PixelSpacing=[_row_spacing(pixels), 1.0])
    ],
    "DICOM, half a turn": lambda pixels: [
        dicom(stored(pixels)[::-1, ::-1], ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    ],
    "DICOM, mirrored": lambda pixels: [dicom(stored(pixels)[:, ::-1], ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])],
    "DICOM, transposed": lambda pixels: [dicom(stored(pixels).T, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])],
    "DICOM, Siemens mosaic": _mosaic,
    "DICOM, three frames": lambda pixels: [dicom(np.stack(_neighbours(stored(pixels), 3)))],
    "DICOM, enhanced multi-frame": _enhanced,
    "DICOM, series of five files": _series,
    "NIfTI, axial": lambda pixels: [_axial(stored(pixels).astype(np.int16))],
    "NIfTI, compressed": lambda pixels: [gzip.compress(_axial(stored(pixels).astype(np.int16)))],
    "NIfTI, 2-D": lambda pixels: [nifti(_as_left_posterior(stored(pixels).astype(np.int16)))],
    "NIfTI, pixels 1.55 : 1": lambda pixels: [
        _axial(stored(_non_square(pixels)).astype(np.int16), (1, _row_spacing(pixels), 1))
    ],
    "NIfTI, coronal slices of 4 mm": _coronal,
    "NIfTI, RGB24": _rgb24,
    "NIfTI, not a number outside the head": _stripped,
    "NIfTI pair": lambda pixels: _pair(pixels, nibabel.Nifti1Pair),
    # Analyze has no field for sides; by convention its first axis runs to the left, that of NIfTI here to the right
    "Analyze pair": lambda pixels: _pair(pixels[:, ::-1], nibabel.AnalyzeImage),
}
"""The forms by name. Where a form has several slices, the image is the middle one."""


@dataclass(frozen=True)
class Outcome:
    """What became of the scans in one form."""

    correct: float
    """Fraction of the scans that are answered with their label; a scan that is refused is not."""
    same: float
    """Fraction that get the class that the plain PNG gets."""
    flagged: float
    """Fraction reported as out of distribution."""
    refused: int
    problem: str
    """The first refusal; empty if there is none."""


def measure(
    classifier: Classifier, scans: Sequence[tuple[Pixels, Label]], form: Form, plain: Sequence[Label]
) -> Outcome:
    """Predicts every scan in this form; `plain` are the classes that their plain PNGs get."""
    found = [_predict(classifier, form(pixels)) for pixels, _ in scans]
    labels = [None if isinstance(answer, str) else answer.label for answer in found]
    return Outcome(
        correct=float(np.mean([answer == label for answer, (_, label) in zip(labels, scans, strict=True)])),
        same=float(np.mean([answer == label for answer, label in zip(labels, plain, strict=True)])),
        flagged=float(np.mean([not isinstance(answer, str) and answer.unlike_training for answer in found])),
        refused=labels.count(None),
        problem=next((answer for answer in found if isinstance(answer, str)), ""),
    )


def _predict(classifier: Classifier, files: Sequence[bytes]) -> Prediction | str:
    """Returns the prediction, or the reason why there is none."""
    try:
        return predictor.standardise_and_predict(classifier, open_scan(files).decode())[1]
    except ImageError as error:
        return str(error)


def choose(root: str, run: str, count: int) -> Iterator[tuple[Pixels, Label]]:
    """Yields about `count` test scans, the same number of every hospital where there are enough, drawn from one seed."""
    workspace = artifacts.locate(root)
    split = artifacts.read(artifacts.locate(HERE.parent).artifacts / run, artifacts.SPLITS)
    generator = np.random.default_rng(0)
    for hospital in split.hospitals.values():
        entries = hospital.test
        for index in generator.permutation(len(entries))[: -(-count // len(split.hospitals))]:
            entry = entries[index]
            yield decode((workspace.dataset / entry.path).read_bytes()).pixels, LABELS[LABELS.index(entry.label)]


def markdown(outcomes: Mapping[str, Outcome]) -> str:
    lines = ["| form | correct | as the PNG | out of distribution | refused |", "| --- | --- | --- | --- | --- |"]
    for name, each in outcomes.items():
        figures = " | ".join(f"{100 * figure:.1f} %" for figure in (each.correct, each.same, each.flagged))
        lines.append(f"| {name} | {figures} | {each.refused}{each.problem and f' ({each.problem})'} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints and writes the table; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", required=True, help="folder with the scans of the published run")
    parser.add_argument("--scans", type=int, default=180, help="about how many scans (default: 180)")
    options = parser.parse_args(arguments)
    classifier = predictor.open_run(artifacts.locate(HERE.parent).models)
    scans = list(choose(options.workspace, classifier.meta.run, options.scans))
    plain = [_predict(classifier, png(pixels)).label for pixels, _ in scans]
    outcomes = {name: measure(classifier, scans, form, plain) for name, form in {"PNG": png, **FORMS}.items()}
    command = f"python benchmarks/rewrapped.py --workspace DIR --scans {options.scans}"
    table = f"The model of {classifier.meta.run} on {len(scans)} test scans (`{command}`).\n\n{markdown(outcomes)}"
    print(table)
    (HERE / "rewrapped.md").write_text(f"{table}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
