"""Draws exports of a PACS for the tests: folders of DICOM studies, with what else lies in such folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rewrapped import dicom
from scans import texture

AXIAL = [1, 0, 0, 0, 1, 0]
T1, T1C, T2, FLAIR = (
    {"SeriesDescription": "t1_se_tra", "EchoTime": 12, "RepetitionTime": 550},
    {"SeriesDescription": "t1_se_tra_KM", "EchoTime": 12, "RepetitionTime": 550, "ContrastBolusAgent": "agent"},
    {"SeriesDescription": "t2_tse_tra", "EchoTime": 95, "RepetitionTime": 4000},
    {"SeriesDescription": "t2_tirm_tra_dark-fluid", "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500},
)
"""Fields of a series of each sequence."""


def uid(*numbers: int) -> str:
    """Returns a UID of a study (one number), a series (two) or an image (three)."""
    return ".".join(map(str, ("1.2.826.0.1.3680043.8.498", *(number + 1000 for number in numbers))))


def image(study: int, series: int, number: int, **fields: Any) -> bytes:
    """Returns slice `number`, from 1, of a series; its pixels, and place in space, are those of no other."""
    pixels = texture(10000 * study + 100 * series + number, 64).astype(np.uint16) * 16
    place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0, 0, 5.0 * number], "InstanceNumber": number}
    names = {
        "StudyInstanceUID": uid(study),
        "SeriesInstanceUID": uid(study, series),
        "SOPInstanceUID": uid(study, series, number),
        "PatientID": f"patient-{study}",
        "AccessionNumber": f"A{study}",
    }
    return dicom(pixels, **{**place, **names, **fields})


def write_series(
    folder: Path, study: int, series: int, count: int, sequence: Mapping[str, Any] = T1, **fields: Any
) -> list[Path]:
    """Writes a series as a PACS does, without suffix, and returns its files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"IM{series:03}{number:04}" for number in range(1, count + 1)]
    for number, file in enumerate(files, 1):
        file.write_bytes(image(study, series, number, **{**sequence, **fields}))
    return files


def write_labels(file: Path, *rows: Sequence[object], columns: str = "study,label") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return file
