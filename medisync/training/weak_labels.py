"""Training images whose label is known in part: the halves of symmetric scans, and lesions drawn into scans without a tumour.

Where scans without a tumour come from other collections, or other hospitals, than scans with one, "which collection is this"
answers "is there a tumour", and a network that learns this calls healthy brains from elsewhere tumours. These images have
both answers within one collection's look: a tumour lies in one half of most heads, so the other half is healthy tissue from a
scan with a tumour; and a lesion can be drawn into a scan without one.

Images are [N, S, S], grey levels from 0 to 255; every random choice comes from the generator given.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medisync.schemas import LABELS

NO_TUMOUR = LABELS.index("notumor")

BACKGROUND = 25
"""Grey level up to which a pixel is background when the head's outline is looked for."""

LEAST_SYMMETRY = 0.88
"""Intersection over union of a head's outline and its mirror image from which a scan counts as symmetric: axial and coronal
slices are, sagittal ones are not."""

HALVES_LABELS = [LABELS.index("glioma"), LABELS.index("meningioma")]
"""Classes of which one half of the head is mostly healthy; pituitary tumours lie in the middle."""

INSIDE = 40
"""Grey level above which a pixel may be the centre of a drawn lesion."""

SHIFT = 10
"""Largest shift of the scan from which a lesion is filled, in 64ths of the side."""

BOTH_HALVES = 0.2
"""Assumed fraction of tumours that reach into both halves."""


@dataclass(frozen=True)
class WeakImages:
    """The images made from one batch, float32, and what is known of them."""

    one: Tensor
    """[M, S, S]: left halves of scans with a tumour, completed by their mirror images."""
    other: Tensor
    """[M, S, S]: right halves of the same scans."""
    labels: Tensor
    """[M]: the tumours' classes."""
    healthy: Tensor
    """[H, S, S]: halves of scans without a tumour."""
    lesions: Tensor
    """[L, S, S]: scans without a tumour into which a lesion is drawn."""

    def stacked(self) -> Tensor:
        return torch.cat([self.one, self.other, self.healthy, self.lesions])

    def loss(self, logits: Tensor, halves_weight: float, lesions_weight: float) -> Tensor:
        """The weighted sum over all images, from the logits of `stacked`; a pair of halves counts as one image."""
        sizes = [len(part) for part in (self.one, self.other, self.healthy, self.lesions)]
        one, other, healthy, lesions = torch.split(logits, sizes)
        pairs = halves_loss(one, other, self.labels) / 2
        without = -healthy.log_softmax(dim=1)[:, NO_TUMOUR].sum()
        return halves_weight * (pairs + without) + lesions_weight * lesion_loss(lesions)


def make_weak_images(
    pixels: Tensor, labels: Tensor, generator: torch.Generator, *, halves: bool, lesions: bool
) -> WeakImages:
    """The images that an augmented batch uint8 [N, S, S] with labels [N] gives, as far as halves and lesions are wanted."""
    images, healthy = pixels.float(), labels == NO_TUMOUR
    has_tumour = torch.isin(labels, torch.tensor(HALVES_LABELS, device=labels.device))
    with_tumour = has_tumour & are_symmetric(images) if halves else torch.zeros_like(healthy)
    one, other = mirror_halves(images[with_tumour])
    left, right = mirror_halves(images[healthy] if halves else images[:0])
    is_left = (torch.rand(len(left), generator=generator) < 0.5).to(pixels.device)
    drawn_into = images[healthy] if lesions else images[:0]
    donors = images[torch.randint(len(images), (len(drawn_into),), generator=generator).to(pixels.device)]
    drawn = draw_lesions(drawn_into, donors, generator) if len(drawn_into) else drawn_into
    return WeakImages(one, other, labels[with_tumour], torch.where(is_left[:, None, None], left, right), drawn)


def are_symmetric(images: Tensor) -> Tensor:
    """[N]: whether each head's outline is nearly its own mirror image about the middle column."""
    head = images > BACKGROUND
    mirrored = head.flip(-1)
    union = (head | mirrored).sum(dim=(1, 2)).clamp_min(1)
    return (head & mirrored).sum(dim=(1, 2)) / union > LEAST_SYMMETRY


def mirror_halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Two heads from each: the left half joined to its mirror image, and the right half joined to its own."""
    side = images.shape[-1] // 2
    left, right = images[..., :side], images[..., -side:]
    return torch.cat([left, left.flip(-1)], dim=-1), torch.cat([right.flip(-1), right], dim=-1)


def halves_loss(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    """Minus the log likelihood, summed, of both halves' logits [M, classes] of scans whose tumours have these labels [M].

    Which half holds the tumour is not known: the likelihood is the sum over the left, the right and both, so that its gradient
    weighs each by its posterior probability, as in expectation maximisation.
    """
    first, second = one.log_softmax(dim=1), other.log_softmax(dim=1)
    tumour_first, tumour_second = (half.gather(1, labels[:, None])[:, 0] for half in (first, second))
    apart, together = math.log((1 - BOTH_HALVES) / 2), math.log(BOTH_HALVES)
    cases = [
        tumour_first + second[:, NO_TUMOUR] + apart,
        first[:, NO_TUMOUR] + tumour_second + apart,
        tumour_first + tumour_second + together,
    ]
    return -torch.logsumexp(torch.stack(cases), dim=0).sum()


def lesion_loss(logits: Tensor) -> Tensor:
    """Minus the log probability, summed, that each image shows a tumour of any class, from logits [M, classes]."""
    tumours = [index for index in range(len(LABELS)) if index != NO_TUMOUR]
    return (logits.logsumexp(dim=1) - logits[:, tumours].logsumexp(dim=1)).sum()


def draw_lesions(images: Tensor, donors: Tensor, generator: torch.Generator) -> Tensor:
    """Each image with one soft, irregular ellipse inside the head that is filled from a donor, or brighter or darker.

    A patch of another scan, blended in, is foreign patch interpolation: Tan et al. 2020, https://arxiv.org/abs/2011.04197.
    """
    uniform = torch.rand(len(images), 12, generator=generator).to(images.device)
    radius = _radius(images, uniform[:, :5], generator)
    softness, strength, kind = (uniform[:, column, None, None] for column in (5, 6, 7))
    mask = torch.sigmoid((1 - radius) * (3 + 9 * softness))
    shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
    moved = donors.roll([images.shape[-1] * step // 64 for step in shift], dims=(1, 2))
    filling = torch.where(kind < 0.5, moved, _textured(images, mask, radius, uniform[:, 8:], generator))
    return torch.lerp(images, filling, (0.55 + 0.45 * strength) * mask).clamp(0, 255)


def _radius(images: Tensor, uniform: Tensor, generator: torch.Generator) -> Tensor:
    """[N, S, S]: distance from the lesion's centre, 1 at its uneven edge; semi-axes are 6 to 19 % of the side."""
    side = images.shape[-1]
    inside = (images > INSIDE).flatten(1).float() + 1e-6  # so that an image without a head has a centre too
    chosen = torch.multinomial(inside.cpu(), 1, generator=generator)[:, 0].to(images.device)
    row, column = (0.75 * centre + 0.25 * side / 2 for centre in (chosen // side, chosen % side))
    axis = torch.arange(side, device=images.device)
    down, across = axis[None, :, None] - row[:, None, None], axis[None, None, :] - column[:, None, None]
    along, wide, angle, three, five = (uniform[:, k, None, None] for k in range(5))
    cosine, sine = torch.cos(torch.pi * angle), torch.sin(torch.pi * angle)
    first, second = across * cosine + down * sine, down * cosine - across * sine
    turn = torch.atan2(second, first)
    uneven = 0.15 * torch.sin(3 * turn + 6 * three) + 0.1 * torch.sin(5 * turn + 6 * five)
    return torch.hypot(first / (side * (0.06 + 0.13 * along)), second / (side * (0.06 + 0.13 * wide))) + uneven


def _textured(images: Tensor, mask: Tensor, radius: Tensor, uniform: Tensor, generator: torch.Generator) -> Tensor:
    """[N, S, S]: what surrounds the lesion, brighter or darker by 25 to 95 levels, with a coarse texture, some with a rim."""
    count, side = len(images), images.shape[-1]
    coarse = torch.randn(count, 1, side // 6, side // 6, generator=generator).to(images.device)
    texture = 12 * functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    inside = (mask > 0.5).float()
    level = (images * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp_min(1)
    sign, change, has_rim = (uniform[:, k] for k in range(3))
    level = level + torch.where(sign < 0.75, 1.0, -1.0) * (25 + 70 * change)
    rim = 35 * (2 * torch.sigmoid(12 * (radius - 0.72)) - 1.2)
    return level[:, None, None] + texture + torch.where(has_rim[:, None, None] < 0.4, rim, 0.0)
