"""TEST INPUTS, not data: one builder per row of the table of bad inputs, with bytes made by the real libraries.

Images are synthetic textures; their patient is called `PATIENT`, so that tests can search for the name everywhere.
"""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scans import texture
from scipy.ndimage import gaussian_filter

PATIENT = "Nobody^Known"
PATIENT_ID = "patient-4711"
JPEG_END = b"\xff\xd9"
SCAN = texture(0, 128)
EXPLICIT, DEFLATED, HTJ2K = ExplicitVRLittleEndian, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.201"


def encoded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


PNG, JPEG = encoded(SCAN), encoded(SCAN, "JPEG", quality=90)


def claiming_png(width: int, height: int) -> bytes:
    """Returns a small PNG file that claims to be a large image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_wrong_pixels(data: bytes) -> bytes:
    """Returns a PNG with changed pixels and the old checksum."""
    at = data.index(b"IDAT") + 10
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def with_wrong_crc(data: bytes) -> bytes:
    """Returns a PNG with correct pixels and a wrong checksum."""
    at = data.index(b"IEND") - 8
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def with_flipped_bit(data: bytes, fraction: float = 0.3) -> bytes:
    """Returns a JPEG with one bit flipped at this fraction of its compressed pixels."""
    start = data.index(b"\xff\xda") + 14
    at = start + int(fraction * (len(data) - start))
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def colourful(side: int = 128) -> Image.Image:
    return Image.fromarray(np.stack([texture(seed, side) for seed in range(3)], axis=2))


def transparent() -> Image.Image:
    return Image.merge("RGBA", (*Image.fromarray(SCAN).convert("RGB").split(), Image.new("L", (128, 128), 200)))


def frames(kind: str) -> bytes:
    first, *more = [Image.fromarray(texture(seed, 128)) for seed in range(3)]
    return encoded(first, kind, save_all=True, append_images=more)


def turned() -> bytes:
    """Returns an image with a dark upper and a bright lower half, and an orientation that turns it by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.vstack([np.zeros((64, 192), np.uint8), texture(3, 192)[:64] // 2 + 100])
    return encoded(wide, "JPEG", exif=exif, quality=95)


def named_jpeg() -> bytes:
    """Returns a JPEG with EXIF data that name a patient and a place."""
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = PATIENT, PATIENT_ID
    exif.get_ifd(0x8825).update({1: "N", 2: (28.0, 34.0, 2.0), 3: "E", 4: (77.0, 12.0, 36.0)})
    return encoded(texture(20, 160), "JPEG", exif=exif, comment=PATIENT.encode())


def named_png() -> bytes:
    info = PngInfo()
    info.add_text("PatientName", PATIENT)
    info.add_itxt("PatientID", PATIENT_ID, zip=True)
    return encoded(texture(21, 160), pnginfo=info)


def dicom(pixels: np.ndarray | None = None, syntax: str = EXPLICIT, **fields: object) -> bytes:
    """Returns a file of frames uint16 [N, H, W] with a patient's name, number and date of birth."""
    stored = texture(22, 160)[None].astype(np.uint16) * 16 if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientName, file.PatientID, file.PatientBirthDate, file.Modality = PATIENT, PATIENT_ID, "19470704", "MR"
    file.NumberOfFrames, file.Rows, file.Columns = stored.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.PixelData = stored.astype("<u2").tobytes()
    for name, value in fields.items():
        setattr(file, name, value)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def compressed_dicom() -> bytes:
    """Returns a file that claims to be High-Throughput JPEG 2000, for which no decoder is installed."""
    from pydicom.encaps import encapsulate

    return dicom(syntax=HTJ2K, PixelData=encapsulate([b"\xff\xd8 no pixels \xff\xd9"]))


def nifti(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()


def pair() -> tuple[bytes, bytes]:
    """Returns the header and the pixels of a NIfTI pair."""
    image = nibabel.Nifti1Pair(np.stack([texture(k, 64) for k in range(4)], axis=2).astype(np.int16), np.eye(4))
    parts = {name: nibabel.FileHolder(fileobj=io.BytesIO()) for name in ("header", "image")}
    image.to_file_map(parts)
    return parts["header"].fileobj.getvalue(), parts["image"].fileobj.getvalue()


def volume(depth: int = 5) -> np.ndarray:
    return np.stack([texture(30 + seed, 96) for seed in range(depth)], axis=2).astype(np.float32)


def with_nan(values: np.ndarray) -> np.ndarray:
    holed = values.astype(np.float32)
    holed[holed > 250] = np.nan
    return holed


def without_slices() -> bytes:
    """Returns a volume whose header gives its shape as 96 x 96 x 0."""
    data = bytearray(nifti(volume(1)))
    data[46:48] = struct.pack("<h", 0)
    return bytes(data)


def chest() -> np.ndarray:
    """Draws a chest X-ray of nobody: bright shoulders and spine, two dark lungs, ribs."""
    y, x = np.mgrid[-1:1:300j, -1:1:260j]
    lungs = sum(np.exp(-((((x - side) / 0.28) ** 2 + ((y + 0.1) / 0.6) ** 2) ** 3)) for side in (-0.42, 0.42))
    ribs = 0.25 * lungs * (np.sin(22 * (y + 0.35 * x**2)) > 0.4)
    spine = 0.35 * np.exp(-((x / 0.09) ** 2))
    body = np.clip(0.75 - 0.6 * lungs + ribs + spine, 0, 1) * (np.abs(x) < 0.9)
    return (255 * gaussian_filter(np.clip(body, 0, 1), 1.5)).astype(np.uint8)


def photographs() -> dict[str, bytes]:
    """Returns the two photographs that come with scikit-learn: a temple and a flower."""
    from sklearn.datasets import load_sample_images

    pictures = load_sample_images()
    return {
        name.split("/")[-1]: encoded(picture, "JPEG")
        for name, picture in zip(pictures.filenames, pictures.images, strict=True)
    }


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)


def archive(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def encrypted_archive() -> bytes:
    """Returns an archive flagged as encrypted in the member's header and in the table of contents."""
    data = bytearray(archive({"a.png": PNG}, zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


@dataclass(frozen=True)
class BadFile:
    """A file, its row in the table, and the response that every entry point must give."""

    row: int
    name: str
    content: bytes
    refused: str = ""
    """Phrase in the refusal, or alternatives separated by "|"; empty for a file that is accepted."""
    notes: Sequence[str] = ()
    """Phrases in the notes on an accepted file."""
    slices: int = 1
    """Slices in the file; a dataset takes files of one only."""
    unlike: bool = False
    """True if a model trained on scans must flag it as out of distribution."""
    stays_outside: bool = False
    """True if datasets and uploads leave it out for its name alone."""


def files() -> list[BadFile]:
    """Returns the files of all rows that are single files."""
    black, white = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>'
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"
    photos = [BadFile(28, f"photo-{name}", data, unlike=True) for name, data in photographs().items()]
    by_hand = "look for names before sharing it"
    return [
        BadFile(1, "empty.jpg", b"", "the file is empty"),
        BadFile(2, "one-byte.png", b"x", "not an image"),
        BadFile(3, "text.jpg", b"hello, world\n" * 50, "not an image"),
        BadFile(4, "page.png", b"<!doctype html><html><body>404</body></html>", "not an image"),
        BadFile(5, "half.png", half(PNG), "damaged"),
        BadFile(6, "half.jpg", half(JPEG), "damaged"),
        BadFile(6, "half-progressive.jpg", half(encoded(SCAN, "JPEG", progressive=True)), "damaged"),
        BadFile(6, "half-without-end.jpg", half(JPEG) + JPEG_END, "damaged"),
        BadFile(6, "half.gif", half(encoded(SCAN, "GIF")), "damaged"),
        BadFile(6, "half.bmp", half(encoded(SCAN, "BMP")), "damaged"),
        BadFile(6, "half.webp", half(encoded(SCAN, "WEBP")), "damaged|not an image"),
        BadFile(6, "half.tiff", _half_tiff("raw"), "damaged"),
        BadFile(6, "half-deflated.tiff", _half_tiff("tiff_deflate"), "damaged"),
        BadFile(6, "half-lzw.tiff", _half_tiff("tiff_lzw"), "damaged"),
        BadFile(7, "no-end.jpg", JPEG.removesuffix(JPEG_END), notes=["lacks its end marker"]),
        BadFile(8, "wrong-crc.png", with_wrong_crc(PNG), "damaged"),
        BadFile(8, "wrong-pixels.png", with_wrong_pixels(PNG), "damaged"),
        BadFile(9, "flipped.jpg", with_flipped_bit(JPEG), "damaged"),
        BadFile(10, "20000.png", claiming_png(20000, 20000), "limit of"),
        BadFile(11, "12000.png", claiming_png(12000, 12000), "12000 x 12000 pixels, more than the limit of"),
        BadFile(12, "9000.png", claiming_png(9000, 9000), "9000 x 9000 pixels, more than the limit of"),
        BadFile(13, "1x1.png", encoded(np.zeros((1, 1), np.uint8)), "too small, at least 32 x 32"),
        BadFile(14, "1x5000.png", encoded(np.zeros((5000, 1), np.uint8)), "one side is over 4 times the other"),
        BadFile(15, "black.png", encoded(black), "no content"),
        BadFile(15, "white.png", encoded(white), "no content"),
        BadFile(16, "noise.png", encoded(noise()), unlike=True),
        BadFile(17, "16-bit.png", encoded(SCAN.astype(np.uint16) * 16), notes=["scaled to 8 bit by percentiles"]),
        BadFile(18, "nan.tiff", encoded(with_nan(SCAN), "TIFF"), "not finite"),
        BadFile(19, "transparent.png", encoded(transparent()), notes=["transparency placed on black"]),
        BadFile(20, "cmyk.jpg", encoded(colourful().convert("CMYK"), "JPEG"), notes=["colour dropped"]),
        BadFile(20, "palette.png", encoded(colourful().quantize(32)), notes=["colour dropped"]),
        BadFile(20, "1-bit.png", encoded(Image.fromarray(SCAN > 128))),
        BadFile(20, "la.png", encoded(transparent().convert("LA")), notes=["transparency placed on black"]),
        BadFile(21, "animated.gif", frames("GIF"), notes=["first of several frames used"]),
        BadFile(21, "pages.tiff", frames("TIFF"), notes=["page 2 of 3 used"], slices=3),
        BadFile(22, "with-zip.png", PNG + archive({"a.txt": PATIENT.encode()})),
        BadFile(23, "also-page.jpg", JPEG[:2] + _comment(b"<html><script>alert(1)</script>") + JPEG[2:]),
        BadFile(24, "turned.jpg", turned()),
        BadFile(25, "exif.jpg", named_jpeg()),
        BadFile(25, "text.png", named_png()),
        BadFile(26, "picture.eps", eps, "not an image", stays_outside=True),
        BadFile(26, "eps.png", eps, "not an image"),
        BadFile(26, "paper.pdf", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "not an image", stays_outside=True),
        BadFile(26, "pdf.jpg", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "not an image"),
        BadFile(27, "drawing.svg", svg, "not an image", stays_outside=True),
        BadFile(27, "svg.png", svg, "not an image"),
        *photos,
        BadFile(28, "chest.png", encoded(chest()), unlike=True),
        BadFile(29, "named.dcm", dicom(), notes=[by_hand]),
        BadFile(30, "monochrome1.dcm", dicom(PhotometricInterpretation="MONOCHROME1"), notes=[by_hand]),
        BadFile(30, "frames.dcm", dicom(np.stack([texture(s, 64) for s in range(3)])), notes=["frame 2 of 3 used"]),
        BadFile(30, "htj2k.dcm", compressed_dicom(), "High-Throughput JPEG 2000"),
        BadFile(33, "nan.nii", nifti(with_nan(volume())), "not finite"),
        BadFile(33, "4d.nii.gz", gzip.compress(nifti(np.stack([volume()] * 2, axis=3))), notes=["first of several"]),
        BadFile(33, "zero.nii", without_slices(), "no slice|volume of slices|damaged"),
    ]


def _half_tiff(compression: str) -> bytes:
    """Returns a TIFF file without the second half of its pixels; its directory comes before them."""
    whole = encoded(SCAN, "TIFF", compression=compression)
    return half(whole)


def _comment(text: bytes) -> bytes:
    return b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text
