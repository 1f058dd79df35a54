"""Makes and reads DICOM files for the tests."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medisync.imaging.dicom import open_dicom
from medisync.imaging.slices import Slice

HEAD = np.zeros((64, 48), np.uint16)
HEAD[8:56, 8:40] = np.arange(48 * 32).reshape(48, 32) + 500
"""Black around a block of all intensities from 500 to 2035."""

AXIAL, SAGITTAL, CORONAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]


def items(**fields: object) -> Sequence:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return Sequence([item])


def read(*files: bytes, number: int = 1) -> Slice:
    return open_dicom(files).read(number - 1)


def numbered(*numbers: int) -> NDArray[np.uint16]:
    return np.stack([HEAD + np.uint16(number) for number in numbers])
