"""Where the network looked: a heat map over one scan for one class. An aid to doubt it by, not evidence."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medisync.data.intensities import Pixels
from medisync.data.preprocessing import normalise
from medisync.inference.predictor import Classifier
from medisync.model.resnet import forward_with_stages
from medisync.schemas import LABELS, Label

STAGES = ("layer1", "layer2")
"""A cell of their maps covers 4 and 8 pixels a side; later stages, at 16 and more, hit known lesions less often."""

SHIFT = 4
"""Pixels by which a view is moved: half a cell of the second stage, so that no place is always on a cell's rim."""

BLUR = 1 / 24
"""Standard deviation of the last smoothing, as a share of the side."""


def explain(classifier: Classifier, pixels: Pixels, label: Label) -> NDArray[np.float32]:
    """How much each place of a standardised image uint8 [S, S] speaks for the label: float32 [S, S], from 0 to 1.

    The maps of Layer-CAM (Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943), which refines Grad-CAM (Selvaraju
    et al. 2017, https://arxiv.org/abs/1610.02391), of two stages, from the gradient of the label's log probability, so
    that what speaks for all classes alike does not show. Each is a mean over four views, mirrored and shifted; their
    product is high where both agree. All zeros where nothing speaks for the label.
    """
    views = _views(torch.from_numpy(pixels.copy()).to(classifier.device.kind))
    maps = _layer_maps(classifier, normalise(views), LABELS.index(label))
    sides = pixels.shape
    heat = torch.ones(sides, device=views.device)
    for each in maps:
        heat = heat * _back(_scaled(each, sides)).mean(dim=0)
    return _to_unit(_smooth(heat)).cpu().numpy().astype(np.float32)


def _views(pixels: Tensor) -> Tensor:
    """[S, S] -> [4, S, S]: as it is and shifted, then both mirrored."""
    pair = torch.stack([pixels, pixels.roll((SHIFT, SHIFT), (0, 1))])
    return torch.cat([pair, pair.flip(2)])


def _back(maps: Tensor) -> Tensor:
    """The maps of `_views`, each in the place of the image it came from."""
    plain, mirrored = maps[:2], maps[2:].flip(2)
    return torch.stack([each[i].roll((-SHIFT * i, -SHIFT * i), (0, 1)) for each in (plain, mirrored) for i in (0, 1)])


def _layer_maps(classifier: Classifier, batch: Tensor, index: int) -> list[Tensor]:
    """[V, 1, h, w] per stage: activations weighted by what they add to the log probability, where they add to it."""
    with torch.enable_grad():
        batch.requires_grad_(True)
        logits, seen = forward_with_stages(classifier.network, batch, classifier.device, STAGES)
        gradients = torch.autograd.grad(functional.log_softmax(logits, dim=1)[:, index].sum(), seen)
    return [
        (activation.detach() * gradient.relu()).float().sum(dim=1, keepdim=True).relu()
        for activation, gradient in zip(seen, gradients, strict=True)
    ]


def _scaled(maps: Tensor, sides: tuple[int, ...]) -> Tensor:
    """[V, 1, h, w] -> [V, S, S], each with a maximum of 1, or all zeros."""
    return _to_unit(functional.interpolate(maps, size=sides, mode="bilinear", align_corners=False)[:, 0])


def _smooth(heat: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as transforms

    deviation = BLUR * heat.shape[-1]
    window = 2 * int(3 * deviation) + 1
    smoothed: Tensor = transforms.gaussian_blur(heat[None], [window, window], [deviation, deviation])[0]
    return smoothed


def _to_unit(heat: Tensor) -> Tensor:
    """[..., S, S], each map divided by its maximum."""
    return heat / heat.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)
