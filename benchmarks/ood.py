"""Measures how often the published model reports pictures that are not scans as out of distribution (OOD).

    python benchmarks/ood.py [--workspace DIR]

The pictures are crops of the two photographs that come with scikit-learn, noise, blurs, discs and nearly blank images, all
drawn from one seed. Where DIR has the dataset, the hospitals' test scans are measured too; few of them should be reported.
Prints a Markdown table and writes it beside this file.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import standardise
from medisync.inference import predictor
from medisync.training.dataset import open_hospitals
from medisync.workspace import artifacts

HERE = Path(__file__).parent
Generator = np.random.Generator


def photos(generator: Generator) -> Pixels:
    """Returns a square crop of a photograph, in grey."""
    picture = load_sample_images().images[generator.integers(2)].mean(axis=2).astype(np.uint8)
    side = generator.integers(96, 400)
    top, left = (generator.integers(length - side + 1) for length in picture.shape)
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def noise(generator: Generator) -> Pixels:
    return generator.integers(0, 256, (200, 200), np.uint8)


def blurs(generator: Generator) -> Pixels:
    """Returns smooth clouds."""
    cloud = gaussian_filter(generator.normal(size=(200, 200)), generator.uniform(3, 25))
    return (255 * (cloud - cloud.min()) / np.ptp(cloud)).astype(np.uint8)


def discs(generator: Generator) -> Pixels:
    """Returns an even disc on black, as large as a head."""
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    radius, bright = generator.uniform(0.4, 0.95), generator.integers(60, 256)
    return (bright * (x**2 + (y / generator.uniform(0.8, 1)) ** 2 < radius**2)).astype(np.uint8)


def blanks(generator: Generator) -> Pixels:
    """Returns one level of grey with a little noise."""
    return np.clip(generator.integers(20, 236) + generator.normal(0, 2, (200, 200)), 0, 255).astype(np.uint8)


NOT_SCANS: Mapping[str, tuple[Callable[[Generator], Pixels], int]] = {
    "crops of photographs": (photos, 120),
    "noise": (noise, 60),
    "blurs": (blurs, 60),
    "discs": (discs, 30),
    "blank images": (blanks, 16),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", help="folder with the scans of the published run")
    options = parser.parse_args(arguments)
    classifier = predictor.open_run(artifacts.locate(HERE.parent).models)
    meta = classifier.meta
    lines = ["| | images | reported as OOD |", "| --- | --- | --- |"]
    for name, pixels in (*_not_scans(meta.image_size), *_test_scans(options.workspace, meta.run, meta.image_size)):
        flagged = [predictor.predict_standardised(classifier, each).unlike_training for each in pixels]
        lines.append(f"| {name} | {len(flagged)} | {100 * np.mean(flagged):.1f} % |")
    command = f"python benchmarks/ood.py{' --workspace DIR' if options.workspace else ''}"
    table = "\n".join([f"The model of {meta.run} (`{command}`).", "", *lines])
    print(table)
    (HERE / "ood.md").write_text(f"{table}\n", encoding="utf-8")
    return 0


def _not_scans(size: int) -> Iterator[tuple[str, list[Pixels]]]:
    generator = np.random.default_rng(0)
    for name, (draw, count) in NOT_SCANS.items():
        yield name, [standardise(draw(generator), size) for _ in range(count)]


def _test_scans(root: str | None, run: str, size: int) -> Iterator[tuple[str, Pixels]]:
    """Yields the test scans of every hospital."""
    if root is None:
        return
    workspace = artifacts.locate(root)
    split = artifacts.read(workspace.artifacts / run, artifacts.SPLITS)
    for name, data in open_hospitals(split, workspace.dataset, size, workspace.cache).items():
        yield f"test scans of {name}", np.array(data["test"].pixels)


if __name__ == "__main__":
    sys.exit(main())
