"""OOD scores from distributions small enough to know."""

from dataclasses import fields

import numpy as np
import pytest

from medisync.errors import ModelError
from medisync.evaluation import ood
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import add_up

GENERATOR = np.random.default_rng(5)


def test_moments_of_two_hospitals_add_to_those_of_all_images() -> None:
    labels, features = np.array([0, 0, 3, 1]), GENERATOR.normal(size=(4, 3))
    apart = add_up([ood.feature_moments(labels[:1], features[:1]), ood.feature_moments(labels[1:], features[1:])])
    together = ood.feature_moments(labels, features)
    for field in fields(together):
        assert np.allclose(getattr(apart, field.name), getattr(together, field.name))
    assert together.counts.tolist() == [2, 1, 0, 1]


def test_the_score_counts_in_deviations_along_each_direction() -> None:
    # one class around (10, 0), deviations 3 and 1: three to the side is as far as nine ahead
    labels = np.zeros(20_000, np.int64)
    features = GENERATOR.normal(size=(20_000, 2)) * [3, 1] + [10, 0]
    distribution = ood.fit_distribution(ood.feature_moments(labels, features))
    along, across, centre = distribution.ood_scores(np.array([[19.0, 0.0], [10.0, 3.0], [10.0, 0.0]]))
    assert along == pytest.approx(3 / np.sqrt(2), rel=0.03)
    assert across == pytest.approx(along, rel=0.03)
    assert centre == pytest.approx(0, abs=0.05)
    assert np.sqrt(np.mean(distribution.ood_scores(features) ** 2)) == pytest.approx(1, rel=0.02)


def test_the_nearest_class_counts_and_a_class_without_images_is_left_out() -> None:
    labels = np.repeat([0, 3], 500)
    features = GENERATOR.normal(size=(1000, 2)) + np.where(labels[:, np.newaxis] == 3, 50, 0)
    distribution = ood.fit_distribution(ood.feature_moments(labels, features))
    near_first, near_last, between = distribution.ood_scores(np.array([[0.0, 0.0], [50.0, 50.0], [25.0, 25.0]]))
    assert max(near_first, near_last) < 0.2
    assert between > 10
    assert len(distribution.means) == 2


def test_fewer_images_than_features_still_give_a_score() -> None:
    features = GENERATOR.normal(size=(6, 40))
    distribution = ood.fit_distribution(ood.feature_moments(np.zeros(6, np.int64), features))
    assert distribution.ood_scores(features).max() < distribution.ood_scores(features + 10).min()


def test_identical_training_images_make_every_other_image_score_high() -> None:
    distribution = ood.fit_distribution(ood.feature_moments(np.zeros(5, np.int64), np.ones((5, 3))))
    same, other = distribution.ood_scores(np.array([[1.0, 1, 1], [1.0, 1, 2]]))
    assert same == pytest.approx(0)
    assert other > 1000


def test_two_blocks_are_whitened_apart_and_the_early_stage_counts_only_when_it_is_far() -> None:
    # one class at 0 with deviation 1 everywhere: whitened, a block of D features at distance d has the squared norm D d^2
    near, far = ood.BLOCKS
    moments = ood.FeatureMoments(
        counts=np.array([1e9, 0, 0, 0]), sums=np.zeros((4, near + far)), products=1e9 * np.eye(near + far)
    )
    distribution = ood.fit_distribution(moments)
    points = np.zeros((4, near + far))
    points[0, :near] = 1.5
    points[1, near:] = 1.0
    points[2, near:] = 2.0
    points[3] = 1.0
    expected = [1.5, np.sqrt(0.1), np.sqrt(0.1 * 2**8), np.sqrt(1.1)]
    assert distribution.ood_scores(points) == pytest.approx(expected, rel=1e-3)


def test_nothing_that_relates_one_block_to_the_other_leaves_a_hospital() -> None:
    near, far = ood.BLOCKS
    moments = ood.feature_moments(np.array([0, 2]), GENERATOR.normal(size=(2, near + far)))
    assert not moments.products[:near, near:].any()
    assert not moments.products[near:, :near].any()
    assert moments.products[:near, :near].all()
    assert moments.products[near:, near:].all()


def test_a_file_returns_the_distribution() -> None:
    distribution = ood.fit_distribution(ood.feature_moments(np.array([0, 1, 1, 2]), GENERATOR.normal(size=(4, 3))))
    read = FeatureDistribution.from_bytes(distribution.to_bytes())
    assert np.array_equal(read.means, distribution.means)
    assert np.array_equal(read.whitening, distribution.whitening)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04nothing", "cannot be read"),
        (FeatureDistribution(np.zeros((2, 3), np.float32), np.zeros((4, 4), np.float32)).to_bytes(), "shapes"),
        (FeatureDistribution(np.zeros((5, 3), np.float32), np.zeros((3, 3), np.float32)).to_bytes(), "shapes"),
        (FeatureDistribution(np.zeros((2, 3), np.float32), np.full((3, 3), np.nan, np.float32)).to_bytes(), "finite"),
        (FeatureDistribution(np.array([[object()]]), np.zeros((1, 1), np.float32)).to_bytes(), "cannot be read"),
    ],
    ids=["empty", "not an archive", "shapes do not fit", "five classes", "nan", "pickle"],
)
def test_any_other_file_is_refused_in_one_sentence(data: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        FeatureDistribution.from_bytes(data)
