"""Measures how long `medisync ingest` takes for 1,000 mixed files, on all cores.

    python benchmarks/ingest.py [--files 1000]

The export is drawn: phantoms of 512 x 512 pixels and 16 bits in series of 22 slices, of four sequences, stored plainly or as
JPEG-LS; with localisers, diffusion, documents, screenshots and damaged files among them. Prints a Markdown table and
writes it beside this file.
"""

import argparse
import csv
import io
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, SecondaryCaptureImageStorage, generate_uid
from rewrapped import dicom

from medisync.imaging.file_tree import counted
from medisync.phantom.scanner import draw_patient
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS

HERE = Path(__file__).parent
SIDE, SLICES = 512, 22
SERIES: dict[str, dict[str, Any]] = {
    "t1": {"SeriesDescription": "t1_se_tra", "EchoTime": 12, "RepetitionTime": 550},
    "t1c": {"SeriesDescription": "t1_se_tra_KM", "EchoTime": 12, "RepetitionTime": 550},
    "t2": {"SeriesDescription": "t2_tse_tra", "EchoTime": 95, "RepetitionTime": 4000},
    "flair": {"SeriesDescription": "t2_tirm_dark-fluid", "EchoTime": 120, "RepetitionTime": 9000},
    "localizer": {"SeriesDescription": "localizer", "EchoTime": 5, "RepetitionTime": 20},
    "dwi": {"SeriesDescription": "ep2d_diff_3scan", "EchoTime": 90, "RepetitionTime": 4000},
}


def heads(label: Any, generator: np.random.Generator) -> list[NDArray[np.float64]]:
    """Draws the slices of a patient."""
    drawn = draw_patient(label, style=next(iter(STYLES.values())), generator=generator, slices=SLICES)
    return [16 * np.asarray(Image.fromarray(each.image).resize((SIDE, SIDE)), np.float64) for each in drawn]


def scanned(head: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.uint16]:
    """Returns a slice as a scanner stores it: 12 bits, with noise of its own."""
    return np.clip(head + generator.normal(0, 12, head.shape), 0, 4095).astype(np.uint16)


def stored(pixels: NDArray[np.uint16], compressed: bool, **fields: Any) -> bytes:
    if compressed:
        packed = encapsulate([imagecodecs.jpegls_encode(pixels)])
        return dicom(pixels, syntax=JPEGLSLossless, PixelData=packed, **fields)
    return dicom(pixels, syntax=ExplicitVRLittleEndian, **fields)


def export(files: int) -> Iterator[tuple[str, bytes, str, str]]:
    """Yields path, content, study and label of each file."""
    generator = np.random.default_rng(0)
    written = study = 0
    while written < files:
        uid, label = generate_uid(entropy_srcs=[str(study)]), LABELS[study % 4]
        patient = heads(label, generator)
        for number, (name, fields) in enumerate(SERIES.items()):
            series = generate_uid(entropy_srcs=[f"{study} {name}"])
            for index, head in enumerate(patient):
                if written == files:
                    return
                pixels = scanned(head, generator)
                place = {
                    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                    "ImagePositionPatient": [0, 0, 5.0 * index],
                    "InstanceNumber": index + 1,
                }
                names = {"StudyInstanceUID": uid, "SeriesInstanceUID": series, "PatientID": f"patient-{study}"}
                data = stored(pixels, study % 3 == 1, **place, **names, **fields)
                if written % 25 == 24:  # of 100 files four are junk
                    capture = dicom(pixels, SOPClassUID=SecondaryCaptureImageStorage, **names)
                    data = (data[: len(data) // 2], b"a note\n" * 99, b"%PDF-1.7", b"", capture)[written // 25 % 5]
                yield f"{study:03}/{number}/IM{index:05}", data, uid, label
                written += 1
        study += 1


def measure(files: int) -> dict[str, str]:
    """Writes an export and ingests it twice with the command, and returns the figures by what they are of."""
    with tempfile.TemporaryDirectory() as place:
        root, labels, size = Path(place), {}, 0
        for name, data, study, label in export(files):
            file = root / "export" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            labels[study], size = label, size + len(data)
        lines = [f"{study},{label}" for study, label in labels.items()]
        (root / "labels.csv").write_text("\n".join(["study,label", *lines]))
        (seconds, memory), (seconds_again, _) = ingest(root), ingest(root)
        report = csv.DictReader(io.StringIO((root / "dataset/north-ingest.csv").read_text()))
        reasons = Counter(row["reason"] for row in report)
        written = len(list((root / "dataset/north").rglob("*.png")))
    return {
        "files": f"{files:,} ({size / 1e6:,.0f} MB)",
        "slices written": f"{written:,}",
        "left out": "; ".join(counted(number, kind) for kind, number in reasons.most_common()),
        "seconds": f"{seconds:.1f}",
        "seconds of a second ingest, which adds nothing": f"{seconds_again:.1f}",
        "largest memory of a process": f"{memory / 1e6:.0f} MB",
        "cores": str(os.cpu_count()),
    }


MEASURED = """
import re, resource, sys
from pathlib import Path
from medisync.cli.main import main
code = main(sys.argv[1:])
own = int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024)
sys.exit(code)
"""


def ingest(root: Path) -> tuple[float, int]:
    """Returns the seconds that the command takes, from its start to its end, and the bytes of its largest process."""
    options = {"workspace": root, "dicom": root / "export", "labels": root / "labels.csv", "to": "dataset/north"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, "ingest", *words], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, int(ended.stdout.split()[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints and writes the table; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="how many files (default: 1000)")
    files = parser.parse_args(arguments).files
    figures = measure(files)
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {figure} |" for name, figure in figures.items())])
    print(table)
    (HERE / "ingest.md").write_text(f"`python benchmarks/ingest.py --files {files}`\n\n{table}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
