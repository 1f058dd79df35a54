"""Where the network looked: a heat map over one scan for one class. An aid to doubt it by, not evidence."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medisync import images
from medisync.inference import Classifier
from medisync.records import LABELS, Label

COARSE, FINE = "layer3", "layer1"
"""Stages of the ResNet18: one cell of the coarse map covers 16 x 16 pixels, one of the fine map 4 x 4."""


def explain(classifier: Classifier, pixels: images.Pixels, label: Label) -> NDArray[np.float32]:
    """How much each place of a standardised image uint8 [S, S] speaks for the label: float [S, S], from 0 to 1.

    The class activation map of Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391) says roughly where; it
    is multiplied with the finer map of Layer-CAM (Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943), as
    Guided Grad-CAM multiplies with a gradient image. All zeros where nothing speaks for the label.
    """
    batch = images.normalise(torch.from_numpy(pixels[np.newaxis].copy()).to(classifier.device.kind))
    (coarse, slope), (fine, fine_slope) = _activations(classifier.network, batch, LABELS.index(label))
    rough = functional.relu((coarse * slope.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True))
    sharp = functional.relu((fine * functional.relu(fine_slope)).sum(dim=1, keepdim=True))
    size = pixels.shape
    return (_scaled(rough, size) * _scaled(sharp, size)).cpu().numpy().astype(np.float32)


def _activations(network: nn.Module, batch: Tensor, index: int) -> list[tuple[Tensor, Tensor]]:
    """What the coarse and the fine stage gave, each with the gradient of the class's logit by it."""
    with torch.enable_grad(), _watched(network) as seen:
        score = network(batch.requires_grad_(True))[0, index]
        gradients = torch.autograd.grad(score, seen)
    return [(activation.detach(), gradient) for activation, gradient in zip(seen, gradients, strict=True)][::-1]


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[Tensor]]:
    """A list that fills with the outputs of the fine and the coarse stage, in this order, when the network runs."""
    seen: list[Tensor] = []
    stages = [network.get_submodule(name) for name in (FINE, COARSE)]
    hooks = [stage.register_forward_hook(lambda _stage, _inputs, output: seen.append(output)) for stage in stages]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _scaled(heat: Tensor, size: tuple[int, ...]) -> Tensor:
    """[1, 1, h, w] -> [S, S], with a maximum of 1, or all zeros."""
    large = functional.interpolate(heat, size=size, mode="bilinear", align_corners=False)[0, 0]
    return large / large.max().clamp_min(torch.finfo(large.dtype).tiny)
