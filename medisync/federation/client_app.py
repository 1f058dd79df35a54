"""A hospital's side: trains from the global weights, or scores them, on images that stay where they are."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from medisync import evaluation, model, novelty, training
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    COUNT,
    DISTRIBUTION,
    METRICS,
    MOMENTS,
    ROUND,
    TOTALS,
    EvaluateOrder,
    TrainOrder,
    arrays_from_state,
    from_arrays,
    to_arrays,
)
from medisync.novelty import FeatureDistribution
from medisync.training import HospitalData, ImageSet

ACTIVITIES = {"train": "training images", "val": "validation", "test": "test"}
"""What a hospital does while it scores a split."""

OpenHospital = Callable[[Context], tuple[str, HospitalData]]
"""From a node's own context to the hospital's name and images."""

OnImages = Callable[[str, str, int, int], None]
"""Called with (hospital, what it is doing, round, images done since the last call)."""


def ignore_images(hospital: str, activity: str, round_number: int, images: int) -> None:
    pass


def build(open_hospital: OpenHospital, on_images: OnImages = ignore_images) -> ClientApp:
    """The Flower app that every hospital runs; `open_hospital` is all that differs between them."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        name, data = open_hospital(context)
        return Message(_train(message, name, data, on_images), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        name, data = open_hospital(context)
        return Message(_evaluate(message, name, data, on_images), reply_to=message)

    @app.query()
    def describe(message: Message, context: Context) -> Message:
        name, data = open_hospital(context)
        return Message(_describe(message, name, data, on_images), reply_to=message)

    return app


def _train(message: Message, name: str, data: HospitalData, on_images: OnImages) -> RecordDict:
    config = message.content.config_records[CONFIG]
    order, round_number = TrainOrder.from_record(config), int(config[ROUND])  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(training.derive_seed(order.training.seed, round_number, name))
    update = training.train(
        message.content.array_records[ARRAYS].to_torch_state_dict(),
        data["train"],
        order.training,
        learning_rate=order.learning_rate,
        image_size=order.image_size,
        proximal_mu=order.proximal_mu,
        renormalisation=order.renormalisation,
        generator=generator,
        device=model.select_device(order.training.device),
        on_batch=partial(on_images, name, "training", round_number),
    )
    metrics = {"loss": update.loss, "accuracy": update.accuracy, "seconds": update.seconds, "norm": update.norm}
    return RecordDict(
        {
            ARRAYS: arrays_from_state(update.state),
            METRICS: MetricRecord({COUNT: update.images, **metrics}),
            CONFIG: ConfigRecord({ROUND: round_number}),
        }
    )


def _evaluate(message: Message, name: str, data: HospitalData, on_images: OnImages) -> RecordDict:
    config = message.content.config_records[CONFIG]
    order, round_number = EvaluateOrder.from_record(config), int(config[ROUND])  # type: ignore[arg-type]
    images = data[order.split]
    outputs = _predict(message, order, images, partial(on_images, name, ACTIVITIES[order.split], round_number))
    known = message.content.array_records.get(DISTRIBUTION)
    totals = evaluation.tally(
        images.labels,
        outputs.logits,
        images.groups,
        temperature=order.temperature,
        distances=from_arrays(FeatureDistribution, known).distances(outputs.features) if known else None,
        replicates=order.replicates,
        generator=np.random.default_rng(training.derive_seed(order.training.seed, order.split, name)),
    )
    return RecordDict(
        {
            TOTALS: to_arrays(totals),
            METRICS: MetricRecord({COUNT: len(images), **_means(totals)}),
            CONFIG: ConfigRecord({ROUND: round_number}),
        }
    )


def _describe(message: Message, name: str, data: HospitalData, on_images: OnImages) -> RecordDict:
    """The moments of the training images' features under the weights sent."""
    config = message.content.config_records[CONFIG]
    order, images = EvaluateOrder.from_record(config), data["train"]
    outputs = _predict(message, order, images, partial(on_images, name, "features", int(config[ROUND])))  # type: ignore[arg-type]
    return RecordDict({MOMENTS: to_arrays(novelty.measure(images.labels, outputs.features))})


def _predict(
    message: Message, order: EvaluateOrder, images: ImageSet, on_batch: Callable[[int], None]
) -> training.Outputs:
    state = message.content.array_records[ARRAYS].to_torch_state_dict()
    return training.predict(
        state, images, model.select_device(order.training.device), on_batch, image_size=order.image_size
    )


def _means(totals: evaluation.Totals) -> dict[str, float]:
    """Loss and accuracy per image; 0 without images, where the count of 0 keeps them out of every average."""
    count = max(1, int(totals.confusion.sum()))
    return {"loss": float(totals.loss[0]) / count, "accuracy": float(np.trace(totals.confusion)) / count}
