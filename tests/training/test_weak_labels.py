"""Halves of scans and drawn lesions, on images of a few pixels and on a phantom's head."""

import math

import numpy as np
import pytest
import torch

from medisync.training.weak_labels import (
    WeakImages,
    are_symmetric,
    draw_lesions,
    halves_loss,
    lesion_loss,
    make_weak_images,
    mirror_halves,
)

GLIOMA, MENINGIOMA, PITUITARY, NO_TUMOUR = range(4)


def heads(count: int = 1, column: int = 16, side: int = 64) -> torch.Tensor:
    """Even discs of level 100 on black, as wide as half the image, whose left edge is at `column`."""
    down, across = np.mgrid[:side, :side]
    inside = (down - side / 2 + 0.5) ** 2 + (across - column - side / 4 + 0.5) ** 2 < (side / 4) ** 2
    return torch.from_numpy(np.repeat(100 * inside.astype(np.uint8)[np.newaxis], count, axis=0))


def test_each_half_is_completed_by_its_own_mirror_image() -> None:
    left, right = mirror_halves(torch.tensor([[[1, 2, 3, 4]]]))
    assert left.tolist() == [[[1, 2, 2, 1]]]
    assert right.tolist() == [[[4, 3, 3, 4]]]


def test_a_disc_is_symmetric_and_a_profile_is_not() -> None:
    disc, profile = heads(), heads()
    profile[:, 40:48, 48:60] = 100  # a nose
    profile[:, 20:30, 10:18] = 100  # the back of a head
    assert are_symmetric(torch.cat([disc, profile])).tolist() == [True, False]


def test_the_likelihood_of_two_halves_by_hand() -> None:
    # left half: 0.7 glioma, 0.1 none; right half: 0.2 glioma, 0.6 none
    one, other = torch.log(torch.tensor([[[0.7, 0.1, 0.1, 0.1]], [[0.2, 0.1, 0.1, 0.6]]]))
    expected = 0.4 * 0.7 * 0.6 + 0.4 * 0.1 * 0.2 + 0.2 * 0.7 * 0.2
    loss = halves_loss(one, other, torch.tensor([GLIOMA]))
    assert loss.item() == pytest.approx(-math.log(expected), rel=1e-5)
    assert halves_loss(other, one, torch.tensor([GLIOMA])).item() == pytest.approx(loss.item())


def test_the_half_that_looks_healthy_is_taught_to_be_healthy_and_the_other_to_hold_the_tumour() -> None:
    one = torch.log(torch.tensor([[0.7, 0.1, 0.1, 0.1]])).requires_grad_()
    other = torch.log(torch.tensor([[0.2, 0.1, 0.1, 0.6]])).requires_grad_()
    halves_loss(one, other, torch.tensor([GLIOMA])).backward()
    assert one.grad is not None
    assert other.grad is not None
    assert one.grad[0, GLIOMA] < 0 < one.grad[0, NO_TUMOUR]  # descent raises glioma on the left
    assert other.grad[0, NO_TUMOUR] < 0 < other.grad[0, GLIOMA]


def test_a_drawn_lesion_is_a_tumour_of_any_class() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.9, 0.1]]))
    assert lesion_loss(logits).item() == pytest.approx(-math.log(0.6) - math.log(0.9), rel=1e-5)


def test_a_lesion_changes_a_part_of_the_head_and_comes_from_the_generator() -> None:
    images, donors = heads(40).float(), torch.full((40, 64, 64), 200.0)
    drawn = draw_lesions(images, donors, torch.Generator().manual_seed(3))
    assert torch.equal(drawn, draw_lesions(images, donors, torch.Generator().manual_seed(3)))
    assert not torch.equal(drawn, draw_lesions(images, donors, torch.Generator().manual_seed(4)))
    changed = ((drawn - images).abs() > 10).float().mean(dim=(1, 2))
    assert changed.min() > 0.002
    assert changed.max() < 0.25
    assert drawn.min() >= 0
    assert drawn.max() <= 255


def test_an_image_without_a_head_gets_a_lesion_too() -> None:
    black = torch.zeros(3, 64, 64)
    assert torch.isfinite(draw_lesions(black, black, torch.Generator().manual_seed(0))).all()


def test_only_symmetric_scans_give_halves_and_only_scans_without_a_tumour_get_lesions() -> None:
    pixels, labels = heads(5), torch.tensor([GLIOMA, MENINGIOMA, PITUITARY, NO_TUMOUR, NO_TUMOUR])
    pixels[1, 10:40, 50:64] = 100  # a profile
    weak = make_weak_images(pixels, labels, torch.Generator().manual_seed(0), halves=True, lesions=True)
    assert weak.labels.tolist() == [GLIOMA]
    assert [len(part) for part in (weak.one, weak.other, weak.healthy, weak.lesions)] == [1, 1, 2, 2]
    assert weak.stacked().shape == (6, 64, 64)
    none = make_weak_images(pixels, labels, torch.Generator().manual_seed(0), halves=False, lesions=False)
    assert len(none.stacked()) == 0
    assert none.loss(torch.zeros(0, 4), 1, 1) == 0


def test_the_loss_weighs_halves_and_lesions() -> None:
    image = torch.zeros(1, 4, 4)
    weak = WeakImages(image, image, torch.tensor([GLIOMA]), image, image)
    logits = torch.zeros(4, 4)  # every probability is 1/4: pair 0.4/16 + 0.4/16 + 0.2/16, healthy 1/4, lesion 3/4
    expected = 2 * (-math.log(1 / 16) / 2 - math.log(1 / 4)) + 3 * -math.log(3 / 4)
    assert weak.loss(logits, 2, 3).item() == pytest.approx(expected, rel=1e-5)
