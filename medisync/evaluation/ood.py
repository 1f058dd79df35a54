"""The OOD score: how far a scan's features lie from those of the training scans.

A network is confident about a holiday photo too, but the features of the photo lie far from those of every class
trained on. Distances are Mahalanobis distances to class-conditional Gaussians with one covariance, as in Lee et al. 2018,
https://arxiv.org/abs/1807.03888, and measured in two blocks of features: those of the network's last stage tell a tumour of
an unknown type from known ones, those of an early stage tell what is no scan at all. Means and covariance follow from sums
that hospitals can add up, so that no features of single images leave a hospital.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ModelError
from medisync.schemas import LABELS

Floats = NDArray[np.float64]

BLOCKS = (512, 128)
"""Features of the last and of an early stage, in this order; other numbers of features are one block."""

FAR_WEIGHT, FAR_POWER = 0.1, 8
"""How the early stage's distance counts: hardly for scans, whose distance is about 1, and alone for what is no scan, whose
distance is 2 and more."""


@dataclass(frozen=True)
class FeatureMoments:
    """Additive sums over labelled images with D features each."""

    counts: Floats
    """[K]: images per class."""
    sums: Floats
    """[K, D]: features summed by class."""
    products: Floats
    """[D, D]: outer products of the features within each block, summed over all images; 0 between blocks."""


@dataclass(frozen=True)
class FeatureDistribution:
    """The features of the training images as class-conditional Gaussians with one covariance."""

    means: NDArray[np.float32]
    """[C, D]: of the C classes that have images."""
    whitening: NDArray[np.float32]
    """[D, D], zero between blocks: W with W W^T the inverse of the covariance, divided by the size of the block, so that
    training images lie at a distance of about 1 in each block."""

    @property
    def features(self) -> int:
        """D, the number of features."""
        return int(self.means.shape[1])

    def ood_scores(self, features: NDArray[np.floating]) -> Floats:
        """The OOD score of each image, [N, D] -> [N]; about 1 for a training scan.

        In each block it is the Mahalanobis distance to the nearest class over the root of the block's size; of both,
        sqrt(last^2 + FAR_WEIGHT early^FAR_POWER).
        """
        differences = self._whiten(features)[:, np.newaxis] - self._whiten(self.means)
        near, *far = (
            (differences[..., block] ** 2).sum(axis=2).min(axis=1, initial=np.inf) for block in blocks(self.features)
        )
        result: Floats = np.sqrt(near + sum(FAR_WEIGHT * squared ** (FAR_POWER / 2) for squared in far))
        return result

    def _whiten(self, points: NDArray[np.floating]) -> Floats:
        """[N, D] -> [N, D], by einsum: BLAS's own threads wait for torch's, 80 ms a batch on two cores."""
        whitened: Floats = np.einsum("nd,de->ne", points.astype(np.float64), self.whitening)
        return whitened

    def to_bytes(self) -> bytes:
        """The bytes of an .npz file of the two arrays."""
        stream = io.BytesIO()
        np.savez(stream, means=self.means, whitening=self.whitening)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "FeatureDistribution":
        """The distribution in a file that `to_bytes` made.

        Raises ModelError for anything else; nothing in the file is executed.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                found = cls(stored["means"], stored["whitening"])
        except Exception as error:  # numpy raises many kinds for arbitrary bytes  # noqa: BLE001
            reason = (str(error).splitlines() or ["unknown format"])[0][:120]
            raise ModelError(f"the feature distribution cannot be read ({reason}); train the model again") from None
        found.require_sound()
        return found

    def require_sound(self) -> None:
        """Raises ModelError if the shapes do not fit together, or a value is not finite."""
        features = self.means.shape[-1] if self.means.ndim == 2 else 0
        if not features or self.whitening.shape != (features, features) or len(self.means) > len(LABELS):
            shapes = f"{list(self.means.shape)} and {list(self.whitening.shape)}"
            raise ModelError(f"the feature distribution has shapes {shapes}, expected [classes, D] and [D, D]")
        if not (np.isfinite(self.means).all() and np.isfinite(self.whitening).all()):
            raise ModelError("the feature distribution holds values that are not finite")


def blocks(features: int) -> list[slice]:
    """Where each block lies among so many features."""
    sizes = BLOCKS if features == sum(BLOCKS) else (features,)
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


def feature_moments(labels: NDArray[np.int64], features: NDArray[np.floating]) -> FeatureMoments:
    """The moments of N images from labels [N] and features [N, D]."""
    values = np.asarray(features, np.float64)
    members = (labels[:, np.newaxis] == np.arange(len(LABELS))).astype(np.float64)
    products = np.zeros((values.shape[1], values.shape[1]))
    for block in blocks(values.shape[1]):
        products[block, block] = values[:, block].T @ values[:, block]
    return FeatureMoments(counts=members.sum(axis=0), sums=members.T @ values, products=products)


def fit_distribution(moments: FeatureMoments) -> FeatureDistribution:
    """The Gaussians that the moments describe, block by block."""
    present = moments.counts > 0
    counts, sums = moments.counts[present], moments.sums[present]
    means = sums / counts[:, np.newaxis]
    scatter = moments.products - sums.T @ means
    whitening = np.zeros_like(scatter)
    for block in blocks(means.shape[1]):
        whitening[block, block] = _whitening(scatter[block, block], counts.sum())
    return FeatureDistribution(means.astype(np.float32), whitening.astype(np.float32))


def _whitening(scatter: Floats, images: float) -> Floats:
    """The whitening of a block from its scatter [D, D] within the classes.

    The covariance is shrunk towards a sphere of the same size, the more so the fewer images there are: as if D further
    images had been seen that vary equally in every direction.
    """
    size = len(scatter)
    sphere = np.eye(size) * np.trace(scatter) / size / images
    values, vectors = np.linalg.eigh((scatter + size * sphere) / (images + size))
    floor = max(values.max(initial=0.0) * 1e-9, 1e-12)
    result: Floats = vectors / np.sqrt(np.maximum(values, floor) * size)
    return result
