"""The OOD score: how far a scan's features lie from those of the training scans.

A network is confident about a holiday photo too, but the features of the photo lie far from those of every class
trained on. The score is the Mahalanobis distance to the nearest of class-conditional Gaussians with one covariance, as
in Lee et al. 2018, https://arxiv.org/abs/1807.03888. Means and covariance follow from sums that hospitals can add up,
so that no features of single images leave a hospital.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ModelError
from medisync.schemas import LABELS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureMoments:
    """Additive sums over labelled images with D features each."""

    counts: Floats
    """[K]: images per class."""
    sums: Floats
    """[K, D]: features summed by class."""
    products: Floats
    """[D, D]: outer products of the features, summed over all images."""


@dataclass(frozen=True)
class FeatureDistribution:
    """The features of the training images as class-conditional Gaussians with one covariance."""

    means: NDArray[np.float32]
    """[C, D]: of the C classes that have images."""
    whitening: NDArray[np.float32]
    """[D, D]: W with W W^T the inverse of the covariance, divided by D, so that training images score about 1."""

    def ood_scores(self, features: NDArray[np.floating]) -> Floats:
        """The OOD score of each image, [N, D] -> [N]: Mahalanobis distance to the nearest class over sqrt(D).

        About 1 for a training scan.
        """
        squares = ((self._whiten(features)[:, np.newaxis] - self._whiten(self.means)) ** 2).sum(axis=2)
        result: Floats = np.sqrt(squares.min(axis=1, initial=np.inf))
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


def feature_moments(labels: NDArray[np.int64], features: NDArray[np.floating]) -> FeatureMoments:
    """The moments of N images from labels [N] and features [N, D]."""
    values = np.asarray(features, np.float64)
    members = (labels[:, np.newaxis] == np.arange(len(LABELS))).astype(np.float64)
    return FeatureMoments(counts=members.sum(axis=0), sums=members.T @ values, products=values.T @ values)


def fit_distribution(moments: FeatureMoments) -> FeatureDistribution:
    """The Gaussians that the moments describe.

    The covariance within the classes is shrunk towards a sphere of the same size, the more so the fewer images there
    are: as if D further images had been seen that vary equally in every direction.
    """
    present = moments.counts > 0
    counts, sums = moments.counts[present], moments.sums[present]
    means = sums / counts[:, np.newaxis]
    total, size = counts.sum(), means.shape[1]
    scatter = moments.products - sums.T @ means
    sphere = np.eye(size) * np.trace(scatter) / size / total
    covariance = (scatter + size * sphere) / (total + size)
    values, vectors = np.linalg.eigh(covariance)
    floor = max(values.max(initial=0.0) * 1e-9, 1e-12)
    whitening = vectors / np.sqrt(np.maximum(values, floor) * size)
    return FeatureDistribution(means.astype(np.float32), whitening.astype(np.float32))
