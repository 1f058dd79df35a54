"""Measures how much of a heat map lies in the lesion, on phantom tumours, whose lesions are known.

    python benchmarks/heat_maps.py

Uses the model of the newest run of the project, or of the workspace in MEDISYNC_WORKSPACE, and draws 60 phantom tumours from
one seed: the three tumour classes and the three scanner styles in turn. The map is that of the predicted class, right or
wrong. Oedema counts as lesion. Prints a Markdown table and writes it beside this file. docs/screenshots.py shows the tumour
with the median figure.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import head_box, pad_to_square, standardise
from medisync.inference import explanation, predictor
from medisync.inference.predictor import Classifier
from medisync.phantom.scanner import PhantomSlice, draw_slice
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS, Label
from medisync.workspace import artifacts

HERE = Path(__file__).parent
TUMOURS = tuple(label for label in LABELS if label != "notumor")
COUNT = 60


@dataclass(frozen=True)
class Measurement:
    """One phantom tumour and its heat map."""

    image: Pixels
    """The slice as drawn, uint8 [H, W]."""
    label: Label
    predicted: Label
    flagged: bool
    """True if the model reports the slice as out of distribution."""
    heat_in_lesion: float
    """Fraction of the heat that lies in the lesion."""
    peak_in_lesion: bool
    lesion_area: float
    """Fraction of the standardised image that the lesion covers: the value expected of heat spread evenly."""


def main() -> int:
    """Prints and writes the table; returns 0."""
    run = artifacts.list_runs(artifacts.locate(None))[0]
    found = measure(predictor.open_run(run.folder))
    table = (
        f"The model of {run.name} on {COUNT} phantom tumours (`python benchmarks/heat_maps.py`).\n\n{markdown(found)}"
    )
    print(table)
    (HERE / "heat_maps.md").write_text(f"{table}\n", encoding="utf-8")
    return 0


def measure(classifier: Classifier, count: int = COUNT) -> list[Measurement]:
    """Draws phantom tumours and measures the heat map of each."""
    generator, styles = np.random.default_rng(0), list(STYLES.values())
    drawn = [
        draw_slice(TUMOURS[k % len(TUMOURS)], style=styles[k // len(TUMOURS) % len(styles)], generator=generator)
        for k in range(count)
    ]
    return [_measure(classifier, each) for each in drawn]


def _measure(classifier: Classifier, drawn: PhantomSlice) -> Measurement:
    size = classifier.meta.image_size
    pixels, lesion = standardise(drawn.image, size), standardised_lesion(drawn, size)
    prediction = predictor.predict_standardised(classifier, pixels)
    heat = explanation.explain(classifier, pixels, prediction.label)
    return Measurement(
        drawn.image,
        drawn.label,
        prediction.label,
        prediction.unlike_training,
        float(heat[lesion].sum() / max(heat.sum(), np.finfo(heat.dtype).tiny)),
        bool(lesion.ravel()[heat.argmax()]),
        float(lesion.mean()),
    )


def standardised_lesion(drawn: PhantomSlice, size: int) -> NDArray[np.bool_]:
    """Returns the lesion, bool [size, size], cut and resized as the image is."""
    mask = pad_to_square(drawn.lesion[head_box(drawn.image)].astype(np.uint8) * 255)
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BILINEAR)) > 127


def median(found: Sequence[Measurement]) -> Measurement:
    """Returns the measurement with the (lower) median fraction of heat in the lesion."""
    return sorted(found, key=lambda each: each.heat_in_lesion)[(len(found) - 1) // 2]


def markdown(found: Sequence[Measurement]) -> str:
    """Returns a table of what was found."""
    heat = [100 * each.heat_in_lesion for each in found]
    quarter, middle, three_quarters = np.percentile(heat, [25, 50, 75])
    rows = {
        "predicted class is the drawn one": _percent([each.label == each.predicted for each in found]),
        "reported as out of distribution": _percent([each.flagged for each in found]),
        "highest point of the heat map lies in the lesion": _percent([each.peak_in_lesion for each in found]),
        "heat in the lesion, median (quartiles)": f"{middle:.1f} % ({quarter:.1f} to {three_quarters:.1f} %)",
        "area of the lesion, median": f"{100 * np.median([each.lesion_area for each in found]):.1f} %",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _percent(flags: Sequence[bool]) -> str:
    return f"{100 * np.mean(flags):.0f} %"


if __name__ == "__main__":
    sys.exit(main())
