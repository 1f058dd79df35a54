"""How often the published model calls unlike the training scans what is no scan at all.

    python benchmarks/strangers.py [--workspace DIR]

Crops of the two photographs that come with scikit-learn, noise, blurs, discs and nearly blank images, all drawn from one
seed; and the hospitals' test scans, of which it should call few so, where DIR has the dataset. Prints a Markdown table and
writes it beside this file.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from medisync.data.intensities import Pixels
from medisync.data.preprocessing import standardise
from medisync.inference import predictor
from medisync.training.dataset import open_hospitals
from medisync.workspace import artifacts

HERE = Path(__file__).parent
Generator = np.random.Generator


def photos(generator: Generator) -> Pixels:
    """A square crop of a photograph, in grey."""
    picture = load_sample_images().images[generator.integers(2)].mean(axis=2).astype(np.uint8)
    side = generator.integers(96, 400)
    top, left = (generator.integers(length - side + 1) for length in picture.shape)
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def noise(generator: Generator) -> Pixels:
    return generator.integers(0, 256, (200, 200), np.uint8)


def blurs(generator: Generator) -> Pixels:
    """Smooth clouds."""
    cloud = gaussian_filter(generator.normal(size=(200, 200)), generator.uniform(3, 25))
    return (255 * (cloud - cloud.min()) / np.ptp(cloud)).astype(np.uint8)


def discs(generator: Generator) -> Pixels:
    """An even disc on black, as large as a head."""
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    radius, bright = generator.uniform(0.4, 0.95), generator.integers(60, 256)
    return (bright * (x**2 + (y / generator.uniform(0.8, 1)) ** 2 < radius**2)).astype(np.uint8)


def blanks(generator: Generator) -> Pixels:
    """One level of grey, and a little noise."""
    return np.clip(generator.integers(20, 236) + generator.normal(0, 2, (200, 200)), 0, 255).astype(np.uint8)


STRANGERS: Mapping[str, tuple[Callable[[Generator], Pixels], int]] = {
    "crops of photographs": (photos, 120),
    "noise": (noise, 60),
    "blurs": (blurs, 60),
    "discs": (discs, 30),
    "blank images": (blanks, 16),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", help="where the scans of the published run are")
    options = parser.parse_args(arguments)
    classifier = predictor.open_run(artifacts.locate(HERE.parent).models)
    meta = classifier.meta
    lines = ["| | images | called unlike the training scans |", "| --- | --- | --- |"]
    for name, pixels in (*_strangers(meta.image_size), *_tested(options.workspace, meta.run, meta.image_size)):
        flagged = [predictor.predict_standardised(classifier, each).unlike_training for each in pixels]
        lines.append(f"| {name} | {len(flagged)} | {100 * np.mean(flagged):.1f} % |")
    command = f"python benchmarks/strangers.py{' --workspace DIR' if options.workspace else ''}"
    table = "\n".join([f"The model of {meta.run} (`{command}`).", "", *lines])
    print(table)
    (HERE / "strangers.md").write_text(f"{table}\n", encoding="utf-8")
    return 0


def _strangers(size: int) -> Iterator[tuple[str, list[Pixels]]]:
    generator = np.random.default_rng(0)
    for name, (draw, count) in STRANGERS.items():
        yield name, [standardise(draw(generator), size) for _ in range(count)]


def _tested(root: str | None, run: str, size: int) -> Iterator[tuple[str, Pixels]]:
    """The test scans of every hospital."""
    if root is None:
        return
    workspace = artifacts.locate(root)
    split = artifacts.read(workspace.artifacts / run, artifacts.SPLITS)
    for name, data in open_hospitals(split, workspace.dataset, size, workspace.cache).items():
        yield f"test scans of {name}", np.array(data["test"].pixels)


if __name__ == "__main__":
    sys.exit(main())
