"""One hospital, one round: train from the global weights, or score them. Only this module changes a network."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medisync import adam, images, model
from medisync.config import LearningRateSchedule, TrainingConfig
from medisync.errors import DataError
from medisync.records import LABELS, SPLITS, HospitalSplit, Split, SplitImage, SplitRecord

EVALUATION_BATCH = 128

STATISTICS_IMAGES = 512
"""Training images that a hospital's own statistics are taken from: a channel's mean over so many hardly changes any more."""


@dataclass(frozen=True)
class ImageSet:
    """N standardised images: `pixels` uint8 [N, S, S], `labels` and `groups` int64 [N]."""

    pixels: images.Pixels
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


HospitalData = Mapping[Split, ImageSet]
"""What one hospital's side of the federation holds; it never leaves there."""


@dataclass(frozen=True)
class Update:
    """What a hospital returns: its weights, the images behind them, and how training went (means over its epochs)."""

    state: dict[str, Tensor]
    """With Adam's memory beside the weights where it was sent so."""
    images: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Outputs:
    """What a network makes of N images: logits float32 [N, classes] and features float32 [N, model.FEATURES]."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


def derive_seed(*parts: int | str) -> int:
    """One seed per (seed, round, hospital, ...): independent streams, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def scheduled_rate(first: float, schedule: LearningRateSchedule, round_number: int, rounds: int) -> float:
    """The learning rate of a round, from 1: constant, a cosine that falls to a twentieth in the last round, or straight down,
    so that it would be nothing in a round after the last.

    Straight down leaves more for the rounds in which images have just grown. Against the cosine, and why it goes to nothing:
    Defazio et al. 2023, https://arxiv.org/abs/2310.07831.
    """
    if schedule == "constant" or rounds == 1:
        return first
    if schedule == "linear":
        return first * (1 - (round_number - 1) / rounds)
    cosine = (1 + math.cos(math.pi * (round_number - 1) / (rounds - 1))) / 2
    return first * (0.05 + 0.95 * cosine)


def scheduled_size(config: TrainingConfig, round_number: int, rounds: int) -> int:
    """The side of the images in a round, from 1: with the progressive schedule 2/7 of it for the first fifth of the rounds,
    4/7 until four fifths, to a multiple of 16, then all of it: 64, 128, 224.

    Small images first, as in Howard's entry to DAWNBench (https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html)
    and in Tan & Le 2021, https://arxiv.org/abs/2104.00298.
    """
    done = round_number / rounds  # at its end, so that the last round has whole images however few rounds there are
    if config.image_size_schedule == "constant" or done > 0.8:
        return config.image_size
    return max(32, 16 * round(config.image_size * (2 / 7 if done <= 0.2 else 4 / 7) / 16))


def smallest_part(image_size: int, whole: int) -> float:
    """The smallest share of the side of an image of side `image_size` that augmentation enlarges: then things in it are as large
    as at side `whole`, or 7/4 as large, which is about the step from one size to the next.

    A network that has only seen whole images takes larger ones for something else: one that was right in 81 % of the validation
    scans at 128 pixels was right in 55 % at 224, one that had been trained on parts too in 74 %. The discrepancy: Touvron et al.
    2019, https://arxiv.org/abs/1906.06423.
    """
    return max(4 / 7, (image_size or whole) / whole)


def renormalisation(config: TrainingConfig, round_number: int, rounds: int) -> float:
    """Strength of BatchRenorm in a round, from 1: none in the first twentieth of the rounds, in which the statistics still
    run away from each other, then more every round until it is full after a fifth.
    """
    if config.normalisation != "renormalised":
        return 0.0
    return min(1.0, max(0.0, ((round_number - 1) / rounds - 0.05) / 0.15))


def open_hospitals(
    record: SplitRecord, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> dict[str, HospitalData]:
    """Each hospital's images, decoded into its caches on first use. Raises DataError if a file changed since the audit."""
    return {
        name: open_hospital(split, dataset, size, cache, on_image) for name, split in sorted(record.hospitals.items())
    }


def open_hospital(
    split: HospitalSplit, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> HospitalData:
    return {name: _open_set(getattr(split, name), dataset, size, cache, on_image) for name in SPLITS}


def _open_set(
    members: list[SplitImage], dataset: Path, size: int, cache: Path, on_image: Callable[[int], None]
) -> ImageSet:
    labels = np.array([LABELS.index(image.label) for image in members], np.int64)
    groups = np.array([image.group for image in members], np.int64)
    if not members:
        return ImageSet(np.zeros((0, size, size), np.uint8), labels, groups)
    files = [(dataset / image.path, image.sha256) for image in members]
    return ImageSet(images.open_cache(files, size, cache, on_image), labels, groups)


def train(
    state: model.State,
    data: ImageSet,
    config: TrainingConfig,
    *,
    learning_rate: float,
    image_size: int = 0,
    proximal_mu: float = 0.0,
    renormalisation: float = 0.0,
    generator: torch.Generator,
    device: model.Device,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Update:
    """Local training as in federated averaging: `local_epochs` passes of Adam, or a part of one, from the global weights,
    on images of side `image_size`, or as they are kept for 0.

    ClientUpdate of Algorithm 1 in McMahan et al. 2017, https://arxiv.org/abs/1602.05629, with Adam for SGD; with
    `proximal_mu` the loss gains mu/2 |w - w_global|^2 as in FedProx, Li et al. 2020, https://arxiv.org/abs/1812.06127.
    Adam goes on from the memory that comes with the weights, if any does: all hospitals then scale their steps alike, as in
    local AMSGrad of Chen, Li and Li 2020 (https://arxiv.org/abs/2109.05109), and a round of one step is a step of them all.
    """
    started = time.monotonic()
    _require_batches(data)
    weights, memory = adam.split(state)
    network = model.restore_for_training(weights, device, renormalisation)
    optimiser = adam.build(network, learning_rate, memory, config.weight_decay)
    objective = _Objective(
        missing_class_adjustment(data.labels, config.missing_class_prior).to(device.kind),
        proximal_mu,
        [weight.detach().clone() for weight in network.parameters()] if proximal_mu else [],
    )
    sums = torch.zeros(2, device=device.kind)  # loss, correct: read once at the end, so that a GPU never waits
    batches = _batches(len(data), config, generator)
    part = smallest_part(image_size, data.pixels.shape[-1]) if config.zoom else 1.0
    for chosen in batches:
        pixels, labels = _fetch(data, chosen, image_size, device)
        if config.augment:
            pixels = images.augment(pixels, generator, part)
        targets = functional.one_hot(labels, len(LABELS)).to(torch.float32)
        if config.mixup:
            pixels, targets = mix(pixels, targets, config.mixup, generator)
        sums += _step(network, optimiser, images.normalise(pixels), targets, objective, device)
        on_batch(len(chosen))
    seen = sum(map(len, batches))
    loss, accuracy = (sums / seen).tolist()
    trained = model.trained_state(network)
    returned = {**trained, **adam.read(optimiser, network)} if memory else trained
    return Update(returned, len(data), loss, accuracy, time.monotonic() - started)


def predict(
    state: model.State,
    data: ImageSet,
    device: model.Device,
    on_batch: Callable[[int], None] = lambda count: None,
    *,
    image_size: int = 0,
) -> Outputs:
    """What the network makes of the images at side `image_size` (0: as they are kept), in their order."""
    network = model.restore(state, device).eval()
    parts = [(torch.zeros(0, len(LABELS)), torch.zeros(0, model.FEATURES))]
    with torch.inference_mode():
        for start in range(0, len(data), EVALUATION_BATCH):
            chosen = np.arange(start, min(start + EVALUATION_BATCH, len(data)))
            pixels, labels = _fetch(data, chosen, image_size, device)
            logits, features = model.forward_with_features(network, images.normalise(pixels), device)
            parts.append((logits.cpu(), features.cpu()))
            on_batch(len(labels))
    return Outputs(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def localise(
    state: model.State, data: ImageSet, device: model.Device, generator: np.random.Generator, *, image_size: int = 0
) -> dict[str, Tensor]:
    """The weights with BatchNorm's statistics of this hospital's training images, at side `image_size` as for `predict`.

    The means over shuffled batches, as training meets them. Without two images to compare the statistics stay as they came.
    """
    if len(data) < 2:
        return dict(state)
    network = model.restore_for_training(state, device, 0.0)
    order = generator.permutation(len(data))[:STATISTICS_IMAGES]
    with torch.no_grad():
        for chosen in np.array_split(order, math.ceil(len(order) / EVALUATION_BATCH)):
            pixels, _ = _fetch(data, chosen, image_size, device)
            model.forward(network, images.normalise(pixels), device)
        return model.trained_state(network)


def missing_class_adjustment(labels: NDArray[np.int64], prior: float) -> Tensor:
    """What is added to the logits before cross-entropy: log(prior) for a class without images here, 0 for the others.

    A hospital that has never seen a class would otherwise push that class's logit down without end, and the average
    would forget it. With the adjustment the push fades as soon as the class is improbable, so that a hospital still says
    "this is not a healthy scan" but never "there are no healthy scans". Logit adjustment by class prior: Menon et al.
    2021, https://arxiv.org/abs/2007.07314; restricted to the missing classes as in FedRS, Li & Zhan 2021,
    https://doi.org/10.1145/3447548.3467254.
    """
    counts = torch.bincount(torch.from_numpy(labels), minlength=len(LABELS))
    return torch.where(counts > 0, 0.0, math.log(prior))


def mix(pixels: Tensor, targets: Tensor, concentration: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image [N, S, S] and its target [N, classes] mixed with another one's of the batch, as float32, by a share from
    Beta(concentration, concentration) that is its own, and at least a half.

    mixup: Zhang et al. 2018, https://arxiv.org/abs/1710.09412.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))  # torch draws no Beta from a generator
    drawn = np.random.default_rng(seed).beta(concentration, concentration, len(pixels))
    share = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(pixels.device)
    partners = torch.randperm(len(pixels), generator=generator).to(pixels.device)
    mixed = torch.lerp(pixels[partners].to(torch.float32), pixels.to(torch.float32), share.view(-1, 1, 1))
    return mixed, torch.lerp(targets[partners], targets, share.view(-1, 1))


def _require_batches(data: ImageSet) -> None:
    if len(data) < 2:
        raise DataError(f"{len(data)} training images; at least 2 are needed, because BatchNorm compares images")


def _batches(count: int, config: TrainingConfig, generator: torch.Generator) -> list[NDArray[np.int64]]:
    """Shuffled batches of even sizes, so that none has a single image."""
    wanted = config.steps_per_epoch or math.ceil(count / config.batch_size)
    per_epoch = max(1, min(wanted, count // 2))
    epochs = [torch.randperm(count, generator=generator).numpy() for _ in range(math.ceil(config.local_epochs))]
    batches = [batch for epoch in epochs for batch in np.array_split(epoch, per_epoch)]
    return batches[: max(1, round(config.local_epochs * per_epoch))]


def _fetch(data: ImageSet, chosen: NDArray[np.int64], image_size: int, device: model.Device) -> tuple[Tensor, Tensor]:
    pixels = images.resize(torch.from_numpy(np.ascontiguousarray(data.pixels[chosen])), image_size)
    return pixels.to(device.kind), torch.from_numpy(data.labels[chosen]).to(device.kind)


@dataclass(frozen=True)
class _Objective:
    """What a hospital minimises: adjusted cross-entropy, plus mu/2 |w - w_global|^2."""

    adjustment: Tensor
    proximal_mu: float
    anchor: list[Tensor]
    """The global weights; empty without a pull towards them."""

    def add_pull(self, network: nn.Module) -> None:
        """Adds the gradient of the pull, mu (w - w_global)."""
        for weight, start in zip(network.parameters(), self.anchor, strict=True):
            weight.grad.add_(weight.detach() - start, alpha=self.proximal_mu)  # type: ignore[union-attr]


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    targets: Tensor,
    objective: _Objective,
    device: model.Device,
) -> Tensor:
    """One optimiser step; returns [loss summed over the batch, number classified correctly].

    Targets are shares of the classes, float [N, classes]; an image is correct where it is taken for the largest of its shares.
    """
    logits = model.forward(network, batch, device)
    loss = functional.cross_entropy(logits + objective.adjustment, targets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if objective.anchor:
        objective.add_pull(network)
    optimiser.step()
    correct = (logits.detach().argmax(dim=1) == targets.argmax(dim=1)).sum()
    return torch.stack([loss.detach() * len(targets), correct.to(loss.dtype)])
