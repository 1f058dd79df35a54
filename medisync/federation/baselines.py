"""Baselines that the federation is compared with: each hospital alone, all images pooled, one hospital left out.

A simulation can do what hospitals cannot: bring the images together. Every baseline runs the federation's own code with
the federation's splits, rounds and local epochs, only with other members: one hospital, one pool, or all but one. All
of them have therefore seen each of their training images equally often, selected their round by their own validation
images, and were calibrated on them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medisync.config import BaselineKind, Configuration
from medisync.evaluation.bootstrap import mcnemar, paired_interval
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.totals import Totals, add_up, for_release, tally
from medisync.federation import simulation
from medisync.federation.checkpoint import CheckpointFolder
from medisync.federation.observer import CheckpointSaver, Observers, TrainingObserver
from medisync.federation.server_app import Outcome
from medisync.model.device import select_device
from medisync.schemas import SPLITS, BaselineModel, BaselineRecord, Calibration, ModelKind, PairedDifference
from medisync.training.dataset import HospitalData, ImageSet
from medisync.training.local import Outputs, predict_images, under_own_prior
from medisync.training.seeds import derive_seed

ALL = "all hospitals"


@dataclass(frozen=True)
class Model:
    """A trained model: its kind, the hospitals that it was trained at, its weights and its calibration."""

    kind: ModelKind
    hospitals: tuple[str, ...]
    outcome: Outcome


@dataclass(frozen=True)
class Comparison:
    """The federated model and its baselines, and how they compare."""

    models: Sequence[Model]
    """In the order of `record.models`: the federated model first."""
    record: BaselineRecord


@dataclass(frozen=True)
class Tested:
    """One model's outputs for one hospital's test images."""

    images: ImageSet
    outputs: Outputs
    """With logits under the hospital's own prior, if the model was trained there."""

    def correct(self) -> NDArray[np.bool_]:
        return np.asarray(self.outputs.logits.argmax(axis=1) == self.images.labels)


def members(
    hospitals: Mapping[str, HospitalData], kinds: Sequence[BaselineKind]
) -> list[tuple[ModelKind, tuple[str, ...]]]:
    """Returns each baseline's kind and the hospitals that it trains at."""
    names = tuple(sorted(hospitals))
    chosen: list[tuple[ModelKind, tuple[str, ...]]] = []
    if "local" in kinds:
        chosen += [("local", (name,)) for name in names]
    if "pooled" in kinds:
        chosen += [("pooled", names)]
    if "leave-one-out" in kinds:
        chosen += [("leave-one-out", tuple(other for other in names if other != name)) for name in names]
    return chosen


def checkpoint_name(position: int) -> str:
    """Returns the name of a baseline's checkpoint, by its position in `members`, from 1."""
    return f"baseline-{position}"


def compare(
    hospitals: Mapping[str, HospitalData],
    outcome: Outcome,
    configuration: Configuration,
    *,
    checkpoints: CheckpointFolder,
    observer: TrainingObserver | None = None,
) -> Comparison:
    """Trains the baselines that the configuration names and tests them, and the federated model, at every hospital."""
    observer = observer or TrainingObserver()
    models = [
        Model("federated", tuple(sorted(hospitals)), outcome),
        *_train_all(hospitals, configuration, checkpoints, observer),
    ]
    tested = [_test(each, hospitals, configuration, observer) for each in models]
    described = [_describe(each, results) for each, results in zip(models, tested, strict=True)]
    differences = [
        difference
        for other, results in zip(models[1:], tested[1:], strict=True)
        for difference in _differences(other, tested[0], results, configuration.training.seed)
    ]
    return Comparison(models, BaselineRecord(models=described, differences=differences))


def settings(configuration: Configuration, *, alone: bool) -> Configuration:
    """Returns how a baseline is trained: with the federation's epochs and steps, aggregated by the mean.

    A member that trains alone sends nothing, so nothing is rounded. Where Adam's moments are shared it takes one round
    from one validation to the next: the mean of one hospital's weights changes nothing about its training.
    """
    mean: dict[str, Any] = {"strategy": "fedavg", "min_hospitals": 1, "participation": 1.0}
    if alone:
        mean["transport"] = "float32"
    configuration = configuration.model_copy(update={"federation": configuration.federation.model_copy(update=mean)})
    federation, hospital = configuration.federation, configuration.training
    if hospital.adam_moments == "fresh" or not alone:
        return configuration
    rounds = math.ceil(federation.rounds / federation.validate_every)
    patience = math.ceil(federation.patience / federation.validate_every)
    fewer = {"rounds": rounds, "validate_every": 1, "patience": patience}
    longer = {"local_epochs": hospital.local_epochs * federation.rounds / rounds}
    return configuration.model_copy(
        update={"federation": federation.model_copy(update=fewer), "training": hospital.model_copy(update=longer)}
    )


def _train_all(
    hospitals: Mapping[str, HospitalData],
    configuration: Configuration,
    checkpoints: CheckpointFolder,
    observer: TrainingObserver,
) -> Iterator[Model]:
    for position, (kind, names) in enumerate(members(hospitals, configuration.baselines.baselines), start=1):
        file = checkpoint_name(position)
        chosen = {name: hospitals[name] for name in names}
        data = {"pooled": pool(chosen)} if kind == "pooled" else chosen
        outcome = simulation.simulate(
            data,
            settings(configuration, alone=len(data) == 1),
            resumed=checkpoints.load(file),
            observer=Observers(observer, CheckpointSaver(checkpoints, file)),
        )
        yield Model(kind, names, outcome)


def pool(hospitals: Mapping[str, HospitalData]) -> HospitalData:
    """Returns all hospitals' images as one hospital's."""
    return {split: _concatenate([hospitals[name][split] for name in sorted(hospitals)]) for split in SPLITS}


def _concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    return ImageSet(
        np.concatenate([images.pixels for images in sets]),
        np.concatenate([images.labels for images in sets]),
        np.concatenate([images.groups for images in sets]),
    )


def _test(
    trained: Model,
    hospitals: Mapping[str, HospitalData],
    configuration: Configuration,
    observer: TrainingObserver,
) -> dict[str, Tested]:
    device = select_device(configuration.training.device)

    def test(name: str, data: HospitalData) -> Tested:
        report = partial(observer.images_processed, name, "test", trained.outcome.best_round)
        outputs = predict_images(trained.outcome.state_at(name), data["test"], device, report)
        prior = configuration.training.missing_class_prior if name in trained.hospitals else 1.0
        return Tested(data["test"], under_own_prior(outputs, data["train"].labels, prior))

    return {name: test(name, hospitals[name]) for name in sorted(hospitals)}


def _describe(trained: Model, tested: Mapping[str, Tested]) -> BaselineModel:
    fitted = {name: trained.outcome.calibration_for(known=name in trained.hospitals) for name in tested}
    totals = {name: _tally(result, trained, fitted[name]) for name, result in tested.items()}
    return BaselineModel(
        kind=trained.kind,
        trained_at=list(trained.hospitals),
        best_round=trained.outcome.best_round,
        test=compute_metrics(add_up(totals.values()), trained.outcome.calibration),
        hospitals={name: compute_metrics(part, fitted[name]) for name, part in totals.items()},
    )


def _tally(result: Tested, trained: Model, fitted: Calibration) -> Totals:
    """Returns the totals as they would leave the hospital."""
    totals = tally(
        result.images.labels,
        result.outputs.logits,
        result.images.groups,
        temperature=fitted.temperature,
        ood_scores=trained.outcome.distribution.ood_scores(result.outputs.features),
        ood_threshold=fitted.distance_threshold,
        covariances=True,
    )
    return for_release(totals)


def _differences(
    other: Model, federated: Mapping[str, Tested], tested: Mapping[str, Tested], seed: int
) -> Iterator[PairedDifference]:
    """Yields the accuracy of the federated model minus that of the other, over all test images and at each hospital."""
    for names, hospital in [(list(federated), ALL), *(([name], name) for name in federated)]:
        ours = np.concatenate([federated[name].correct() for name in names])
        theirs = np.concatenate([tested[name].correct() for name in names])
        groups = np.concatenate([federated[name].images.groups for name in names])
        if len(ours):
            generator = np.random.default_rng(derive_seed(seed, "paired", hospital))
            low, high = paired_interval(ours, theirs, groups, generator)
            yield PairedDifference(
                kind=other.kind,
                trained_at=list(other.hospitals),
                hospital=hospital,
                difference=float(ours.mean() - theirs.mean()),
                low=low,
                high=high,
                mcnemar_p=mcnemar(ours, theirs),
            )
