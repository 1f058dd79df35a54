"""Augmentation and mixup."""

import numpy as np
import pytest
import torch
from scans import texture

from medisync.training.transforms import augment, mix_pairs


def test_augmentation_is_seeded_mirrors_half_and_keeps_the_shape() -> None:
    image = np.zeros((128, 128), np.uint8)
    image[14:114, 4:84] = texture(1, 100)[:, :80] // 2 + 60  # a head on the left
    batch = torch.from_numpy(np.repeat(image[np.newaxis], 200, axis=0))
    once, again = (augment(batch, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, augment(batch, torch.Generator().manual_seed(2)))
    assert once.shape == batch.shape
    assert once.dtype == torch.uint8
    columns = torch.arange(128.0)
    weight = once.float().mean(dim=1)
    centres = (weight * columns).sum(dim=1) / weight.sum(dim=1)
    assert (centres > 63.5).float().mean().item() == pytest.approx(0.5, abs=0.12)  # the head lies on the left


def test_images_are_mixed_in_pairs_and_their_targets_by_the_same_fraction() -> None:
    levels = torch.tensor([0, 60, 120, 240], dtype=torch.uint8)
    pixels, targets = levels.view(4, 1, 1).expand(4, 8, 8), torch.eye(4)
    fractions = []
    for seed in range(40):
        mixed, told = mix_pairs(pixels, targets, 0.4, torch.Generator().manual_seed(seed))
        again, _ = mix_pairs(pixels, targets, 0.4, torch.Generator().manual_seed(seed))
        assert torch.equal(mixed, again)
        # as much of each image as of its label
        torch.testing.assert_close(mixed.mean(dim=(1, 2)), told @ levels.float())
        torch.testing.assert_close(told.sum(dim=1), torch.ones(4))
        assert (told > 0).sum(dim=1).max() <= 2  # a pair
        assert told.diagonal().min() >= 0.5  # of which its own part is the larger
        fractions.append(told.diagonal())
    assert torch.cat(fractions).min() < 0.55
    assert max(float(each.max() - each.min()) for each in fractions) > 0.3  # each image its own fraction
