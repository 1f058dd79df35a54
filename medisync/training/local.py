"""One hospital, one round: train from the global weights, or score them."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medisync.config import TrainingConfig
from medisync.errors import DataError
from medisync.imaging.preprocessing import normalise, resize
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
from medisync.training.weak_labels import WeakImages, make_weak_images

EVALUATION_BATCH = 128

STATISTICS_IMAGES = 512
"""Training images behind a hospital's own running statistics: with more, a channel's mean would hardly change."""


@dataclass(frozen=True)
class RoundInstructions:
    """A hospital's instructions for one round: its configuration, and the values set by the server for each round."""

    training: TrainingConfig
    learning_rate: float
    image_size: int = 0
    """Side of the images in pixels; 0 for the size in the cache."""
    proximal_mu: float = 0.0
    """FedProx's weight of the squared distance from the global weights; 0 turns it off."""
    weak_labels: bool = False
    """Whether images whose label is known in part take part in this round."""


@dataclass(frozen=True)
class Update:
    """A client update: the trained weights, the number of images behind them, and how training went."""

    state: dict[str, Tensor]
    """The weights, and Adam's moments if they came with the global weights."""
    images: int
    loss: float
    """Mean over the images seen in training, as is `accuracy`."""
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Outputs:
    """A network's outputs for N images."""

    logits: NDArray[np.float32]
    """[N, classes]."""
    features: NDArray[np.float32]
    """[N, FEATURES]."""


def train_locally(
    state: State,
    data: ImageSet,
    instructions: RoundInstructions,
    *,
    generator: torch.Generator,
    device: Device,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Update:
    """Trains for `local_epochs` passes, or a part of one, from the global weights.

    With `proximal_mu` the loss gains mu/2 |w - w_global|^2. Adam resumes from the moments that come with the weights,
    if any do: all hospitals then scale their steps alike, and a round of one step is one step of all hospitals
    together.

    Raises DataError if there are fewer than two images.

    ClientUpdate of Algorithm 1 in McMahan et al. 2017, https://arxiv.org/abs/1602.05629, with Adam for SGD; shared
    moments as in local AMSGrad, Chen, Li & Li 2020, https://arxiv.org/abs/2109.05109; `proximal_mu` as in FedProx, Li
    et al. 2020, https://arxiv.org/abs/1812.06127.
    """
    started = time.monotonic()
    _require_batches(data)
    weights, moments = adam.split_moments(state)
    learner = _start_round(weights, moments, data, instructions, device)
    progress = torch.zeros(2, device=device.kind)  # loss and correct images, read once at the end: a GPU never waits
    batches = _batches(len(data), instructions.training, generator)
    for chosen in batches:
        progress += learner.step(_training_batch(data, chosen, instructions, generator, device))
        on_batch(len(chosen))
    loss, accuracy = (progress / sum(map(len, batches))).tolist()
    trained = trained_state(learner.network)
    if moments:
        trained.update(adam.read_moments(learner.optimiser, learner.network))
    return Update(trained, len(data), loss, accuracy, time.monotonic() - started)


def predict_images(
    state: State,
    data: ImageSet,
    device: Device,
    on_batch: Callable[[int], None] = lambda count: None,
    *,
    image_size: int = 0,
) -> Outputs:
    """The network's outputs for the images, in their order, at side `image_size`; 0 for the size in the cache."""
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
    """The weights with running statistics of this hospital's training images.

    The images have side `image_size`, as in `predict_images`. The running statistics are means over shuffled batches of
    up to STATISTICS_IMAGES images, as training sees them. With fewer than two images they stay as they are.
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
    """Values [classes] added to the logits before cross-entropy: log(prior) for classes without images here, else 0.

    A hospital without images of a class would otherwise push that class's logit down without limit, and the average
    would forget the class. With the adjustment the push fades as soon as the class is improbable, so that a hospital
    still learns "this is not a healthy scan" but never "there are no healthy scans".

    Added at prediction too, the values are the hospital's own prior; without them the logits do not depend on what is
    common where the scan was made.

    Logit adjustment by class prior: Menon et al. 2021, https://arxiv.org/abs/2007.07314; restricted to the missing
    classes as in FedRS, Li & Zhan 2021, https://doi.org/10.1145/3447548.3467254.
    """
    counts = torch.bincount(torch.from_numpy(labels), minlength=len(LABELS))
    return torch.where(counts > 0, 0.0, math.log(prior))


def under_own_prior(outputs: Outputs, training_labels: NDArray[np.int64], prior: float) -> Outputs:
    """The outputs with logits as a hospital with these training labels predicts its own scans; unchanged for a prior of 1."""
    adjustment = missing_class_adjustment(training_labels, prior).numpy()
    return replace(outputs, logits=outputs.logits + adjustment)


def _require_batches(data: ImageSet) -> None:
    if len(data) < 2:
        raise DataError(f"{len(data)} training images; at least 2 are needed, because BatchNorm compares images")


def _batches(count: int, config: TrainingConfig, generator: torch.Generator) -> list[NDArray[np.int64]]:
    """Shuffled batches of image indices, of even sizes, so that none has a single image."""
    wanted = config.steps_per_epoch or math.ceil(count / config.batch_size)
    per_epoch = max(1, min(wanted, count // 2))
    epochs = [torch.randperm(count, generator=generator).numpy() for _ in range(math.ceil(config.local_epochs))]
    batches = [batch for epoch in epochs for batch in np.array_split(epoch, per_epoch)]
    return batches[: max(1, round(config.local_epochs * per_epoch))]


@dataclass(frozen=True)
class _Batch:
    """The images of one step."""

    pixels: Tensor
    """[N, S, S]: augmented and mixed as configured."""
    targets: Tensor
    """float32 [N, classes]: fractions of the classes."""
    weak: WeakImages | None
    """Further images, whose label is known in part."""


def _training_batch(
    data: ImageSet,
    chosen: NDArray[np.int64],
    instructions: RoundInstructions,
    generator: torch.Generator,
    device: Device,
) -> _Batch:
    config = instructions.training
    pixels, labels = _fetch(data, chosen, instructions.image_size, device)
    if config.augment:
        pixels = augment(pixels, generator)
    weak = None
    if instructions.weak_labels:
        wanted = {"halves": config.mirrored_halves > 0, "lesions": config.drawn_lesions > 0}
        weak = make_weak_images(pixels, labels, generator, **wanted)
    targets = functional.one_hot(labels, len(LABELS)).to(torch.float32)
    if config.mixup:
        pixels, targets = mix_pairs(pixels, targets, config.mixup, generator)
    return _Batch(pixels, targets, weak)


def _fetch(data: ImageSet, chosen: NDArray[np.int64], image_size: int, device: Device) -> tuple[Tensor, Tensor]:
    pixels = resize(torch.from_numpy(np.ascontiguousarray(data.pixels[chosen])), image_size)
    return pixels.to(device.kind), torch.from_numpy(data.labels[chosen]).to(device.kind)


@dataclass(frozen=True)
class _Objective:
    """The loss that a hospital minimises: adjusted cross-entropy, the loss of weak labels, plus mu/2 |w - w_global|^2."""

    adjustment: Tensor
    """The result of `missing_class_adjustment`."""
    mirrored_halves: float
    drawn_lesions: float
    """Weights of the loss of images whose label is known in part."""
    proximal_mu: float
    global_weights: list[Tensor]
    """Parameters at the start of the round; empty without the proximal term."""

    def weak_loss(self, weak: WeakImages, logits: Tensor) -> Tensor:
        return weak.loss(logits, self.mirrored_halves, self.drawn_lesions)

    def add_proximal_gradient(self, network: nn.Module) -> None:
        """Adds the gradient of the proximal term, mu (w - w_global)."""
        for weight, start in zip(network.parameters(), self.global_weights, strict=True):
            weight.grad.add_(weight.detach() - start, alpha=self.proximal_mu)  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Learner:
    """A network in training: with its optimiser, the objective and the device."""

    network: nn.Module
    optimiser: torch.optim.Adam
    objective: _Objective
    device: Device

    def step(self, batch: _Batch) -> Tensor:
        """Takes one optimiser step; returns [loss summed over the batch, number of images classified correctly].

        An image is correct if it is assigned to the class with the largest fraction. Weak labels count in neither.
        """
        pixels, targets, weak = batch.pixels, batch.targets, batch.weak
        stacked = pixels if weak is None else torch.cat([pixels.float(), weak.stacked()])
        outputs = forward(self.network, normalise(stacked), self.device)
        logits = outputs[: len(targets)] + self.objective.adjustment
        loss = total = functional.cross_entropy(logits, targets)
        if weak is not None:
            total = loss + self.objective.weak_loss(weak, outputs[len(targets) :]) / len(targets)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if self.objective.global_weights:
            self.objective.add_proximal_gradient(self.network)
        self.optimiser.step()
        correct = (logits.detach().argmax(dim=1) == targets.argmax(dim=1)).sum()
        return torch.stack([loss.detach() * len(targets), correct.to(loss.dtype)])


def _start_round(
    weights: State, moments: State, data: ImageSet, instructions: RoundInstructions, device: Device
) -> _Learner:
    """A learner that starts the round from the global weights and moments."""
    config, mu = instructions.training, instructions.proximal_mu
    network = restore_for_training(weights, device)
    objective = _Objective(
        missing_class_adjustment(data.labels, config.missing_class_prior).to(device.kind),
        config.mirrored_halves,
        config.drawn_lesions,
        mu,
        [weight.detach().clone() for weight in network.parameters()] if mu else [],
    )
    return _Learner(
        network,
        adam.build_adam(network, instructions.learning_rate, moments, config.weight_decay),
        objective,
        device,
    )
