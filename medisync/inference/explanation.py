"""A heat map of where the network looked in one scan for one class.

Use it to question the prediction; it is not evidence.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import normalise
from medisync.inference.predictor import Classifier
from medisync.model.resnet import forward_with_stages
from medisync.schemas import LABELS, Label

STAGES = ("layer1", "layer2")
"""Their maps have cells 4 and 8 pixels wide; those of later stages, 16 and more, hit known lesions less often."""

SHIFT = 4
"""Pixels by which a view is moved: half a cell of the second stage, so that no pixel is always at a cell's edge."""

BLUR = 1 / 24
"""Standard deviation of the final smoothing, as a fraction of the side."""


def explain(classifier: Classifier, pixels: Pixels, label: Label) -> NDArray[np.float32]:
    """The heat map of a standardised image uint8 [S, S] for the label: float32 [S, S], from 0 to 1.

    It is high where pixels support the label, and all zeros if none do. Two stages' Layer-CAM maps, each a mean over
    four views, mirrored and shifted, are multiplied, so that the product is high where both agree. They come from the
    gradient of the label's log probability, so that support for all classes alike does not show.

    Layer-CAM: Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943; it refines Grad-CAM, Selvaraju et al. 2017,
    https://arxiv.org/abs/1610.02391.
    """
    views = _views(torch.from_numpy(pixels.copy()).to(classifier.device.kind))
    maps = _layer_maps(classifier, normalise(views), LABELS.index(label))
    sides = pixels.shape
    heat = torch.ones(sides, device=views.device)
    for stage in maps:
        heat = heat * _undo_views(_scaled(stage, sides)).mean(dim=0)
    return _to_unit(_smooth(heat)).cpu().numpy().astype(np.float32)


def _views(pixels: Tensor) -> Tensor:
    """[S, S] -> [4, S, S]: unchanged and shifted, then both mirrored."""
    pair = torch.stack([pixels, pixels.roll((SHIFT, SHIFT), (0, 1))])
    return torch.cat([pair, pair.flip(2)])


def _undo_views(maps: Tensor) -> Tensor:
    """[4, S, S] -> [4, S, S]: moves the maps of `_views` back, so that all lie over the same image."""
    plain, mirrored = maps[:2], maps[2:].flip(2)
    return torch.stack([pair[i].roll((-SHIFT * i, -SHIFT * i), (0, 1)) for pair in (plain, mirrored) for i in (0, 1)])


def _layer_maps(classifier: Classifier, batch: Tensor, index: int) -> list[Tensor]:
    """[V, 1, h, w] per stage: activations weighted by the log probability's positive gradient, summed over channels."""
    with torch.enable_grad():
        batch.requires_grad_(True)
        logits, maps = forward_with_stages(classifier.network, batch, classifier.device, STAGES)
        activations = [maps[stage] for stage in STAGES]
        logits = logits + torch.from_numpy(classifier.adjustment).to(logits)
        gradients = torch.autograd.grad(functional.log_softmax(logits, dim=1)[:, index].sum(), activations)
    return [
        (activation.detach() * gradient.relu()).float().sum(dim=1, keepdim=True).relu()
        for activation, gradient in zip(activations, gradients, strict=True)
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
