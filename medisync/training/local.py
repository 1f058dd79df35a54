"""One hospital, one round: train from the global weights, or score them. Only this module changes a network."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medisync.config import TrainingConfig
from medisync.data.preprocessing import normalise, resize
from medisync.errors import DataError
from medisync.model import adam
from medisync.model.device import Device
from medisync.model.resnet import (
    FEATURES,
    forward,
    forward_with_features,
    restore_for_training,
    restore_network,
    trained_state,
)
from medisync.model.weights import State
from medisync.schemas import LABELS
from medisync.training.dataset import ImageSet
from medisync.training.transforms import augment, mix_pairs

EVALUATION_BATCH = 128


STATISTICS_IMAGES = 512
"""Training images that a hospital's own statistics are taken from: a channel's mean over so many hardly changes any more."""


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


def train_locally(
    state: State,
    data: ImageSet,
    config: TrainingConfig,
    *,
    learning_rate: float,
    image_size: int = 0,
    proximal_mu: float = 0.0,
    generator: torch.Generator,
    device: Device,
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
    network = restore_for_training(weights, device)
    optimiser = adam.build(network, learning_rate, memory, config.weight_decay)
    objective = _Objective(
        missing_class_adjustment(data.labels, config.missing_class_prior).to(device.kind),
        proximal_mu,
        [weight.detach().clone() for weight in network.parameters()] if proximal_mu else [],
    )
    sums = torch.zeros(2, device=device.kind)  # loss, correct: read once at the end, so that a GPU never waits
    batches = _batches(len(data), config, generator)
    for chosen in batches:
        pixels, labels = _fetch(data, chosen, image_size, device)
        if config.augment:
            pixels = augment(pixels, generator)
        targets = functional.one_hot(labels, len(LABELS)).to(torch.float32)
        if config.mixup:
            pixels, targets = mix_pairs(pixels, targets, config.mixup, generator)
        sums += _step(network, optimiser, normalise(pixels), targets, objective, device)
        on_batch(len(chosen))
    seen = sum(map(len, batches))
    loss, accuracy = (sums / seen).tolist()
    trained = trained_state(network)
    returned = {**trained, **adam.read(optimiser, network)} if memory else trained
    return Update(returned, len(data), loss, accuracy, time.monotonic() - started)


def predict_images(
    state: State,
    data: ImageSet,
    device: Device,
    on_batch: Callable[[int], None] = lambda count: None,
    *,
    image_size: int = 0,
) -> Outputs:
    """What the network makes of the images at side `image_size` (0: as they are kept), in their order."""
    network = restore_network(state, device).eval()
    parts = [(torch.zeros(0, len(LABELS)), torch.zeros(0, FEATURES))]
    with torch.inference_mode():
        for start in range(0, len(data), EVALUATION_BATCH):
            chosen = np.arange(start, min(start + EVALUATION_BATCH, len(data)))
            pixels, labels = _fetch(data, chosen, image_size, device)
            logits, features = forward_with_features(network, normalise(pixels), device)
            parts.append((logits.cpu(), features.cpu()))
            on_batch(len(labels))
    return Outputs(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def localise(
    state: State, data: ImageSet, device: Device, generator: np.random.Generator, *, image_size: int = 0
) -> dict[str, Tensor]:
    """The weights with BatchNorm's statistics of this hospital's training images, at side `image_size` as for `predict`.

    The means over shuffled batches, as training meets them. Without two images to compare the statistics stay as they came.
    """
    if len(data) < 2:
        return dict(state)
    network = restore_for_training(state, device)
    order = generator.permutation(len(data))[:STATISTICS_IMAGES]
    with torch.no_grad():
        for chosen in np.array_split(order, math.ceil(len(order) / EVALUATION_BATCH)):
            pixels, _ = _fetch(data, chosen, image_size, device)
            forward(network, normalise(pixels), device)
        return trained_state(network)


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


def _fetch(data: ImageSet, chosen: NDArray[np.int64], image_size: int, device: Device) -> tuple[Tensor, Tensor]:
    pixels = resize(torch.from_numpy(np.ascontiguousarray(data.pixels[chosen])), image_size)
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
    device: Device,
) -> Tensor:
    """One optimiser step; returns [loss summed over the batch, number classified correctly].

    Targets are shares of the classes, float [N, classes]; an image is correct where it is taken for the largest of its shares.
    """
    logits = forward(network, batch, device)
    loss = functional.cross_entropy(logits + objective.adjustment, targets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if objective.anchor:
        objective.add_pull(network)
    optimiser.step()
    correct = (logits.detach().argmax(dim=1) == targets.argmax(dim=1)).sum()
    return torch.stack([loss.detach() * len(targets), correct.to(loss.dtype)])
