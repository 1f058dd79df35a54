"""Random changes to a batch in training: augmentation of images, and mixup."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors about half of a batch, and shifts, rotates, scales and re-windows each image a little.

    Takes and returns uint8 [N, S, S]. Limits: 12 degrees, 6 % shift, 10 % scale, 20 % contrast, 10 % brightness, gamma
    0.8 to 1.25.
    """
    count = len(pixels)
    uniform = (torch.rand(count, 8, generator=generator) * 2 - 1).to(pixels.device)  # each in [-1, 1]
    grid = functional.affine_grid(_affine(uniform), [count, 1, *pixels.shape[1:]], align_corners=False)
    images = pixels.unsqueeze(1).to(torch.float32).div_(255)
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    contrast, brightness, gamma = (uniform[:, i].view(-1, 1, 1, 1) for i in (5, 6, 7))
    images = images.clamp_(0, 1).pow(1.25**gamma) * (1 + 0.2 * contrast) + 0.1 * brightness * (images > 0.04)
    return images.squeeze(1).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _affine(uniform: Tensor) -> Tensor:
    """[N, >=5] in [-1, 1] -> [N, 2, 3] for affine_grid: mirror, rotation, scale, shift."""
    mirror = torch.where(uniform[:, 0] < 0, -1.0, 1.0)
    angle = uniform[:, 1] * (12 * torch.pi / 180)
    scale = 1 + 0.1 * uniform[:, 2]
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = 0.12 * uniform[:, 3:5]  # grid coordinates span [-1, 1]: 0.12 is 6 % of the side
    upper = torch.stack([cosine * mirror, -sine, shift[:, 0]], dim=1)
    lower = torch.stack([sine * mirror, cosine, shift[:, 1]], dim=1)
    return torch.stack([upper, lower], dim=1)


def mix_pairs(
    pixels: Tensor, targets: Tensor, concentration: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixes each image and its target with another of the batch: mixup.

    Takes uint8 [N, S, S] and float32 [N, classes]; returns both as float32. Each image has its own fraction, drawn from
    Beta(concentration, concentration), of which the larger part, at least a half, goes to the image itself.

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))  # torch cannot draw a Beta variate from a generator
    drawn = np.random.default_rng(seed).beta(concentration, concentration, len(pixels))
    fraction = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(pixels.device)
    partners = torch.randperm(len(pixels), generator=generator).to(pixels.device)
    mixed = torch.lerp(pixels[partners].to(torch.float32), pixels.to(torch.float32), fraction.view(-1, 1, 1))
    return mixed, torch.lerp(targets[partners], targets, fraction.view(-1, 1))
