"""Opens what comes in slices: a DICOM file or series, a NIfTI volume.

`decoding` imports this module when it meets such a file: nibabel and pydicom import slowly, and most workspaces
hold images only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from medisync.errors import ImageError
from medisync.imaging.dicom import open_dicom
from medisync.imaging.formats import is_dicom
from medisync.imaging.nifti import open_nifti
from medisync.imaging.slices import Slice, Volume


def open_volume(files: Sequence[bytes]) -> Volume:
    """Opens the files of one scan: a file, or all files of a DICOM series, in any order.

    Raises ImageError with one sentence.
    """
    with _damage_explained():
        volume = open_dicom(files) if all(map(is_dicom, files)) else open_nifti(files)
    if volume.count < 1:
        raise ImageError("the volume has no slice")
    return replace(volume, read=lambda index: _read(volume, index))


def _read(volume: Volume, index: int) -> Slice:
    with _damage_explained():
        return volume.read(index)


@contextmanager
def _damage_explained() -> Iterator[None]:
    """Turns whatever either library raises into an ImageError that quotes nothing of the file, which may name a patient."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the volume is too large for this machine's memory") from None
    except Exception as error:  # arbitrary bytes make both libraries raise anything  # noqa: BLE001
        raise ImageError(f"the volume is damaged ({type(error).__name__})") from None
