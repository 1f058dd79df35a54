"""A hospital's side: trains from the global weights, or scores them, on images that stay where they are."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from medisync.config import TrainingConfig
from medisync.errors import MediSyncError
from medisync.evaluation import ood
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import Totals, tally
from medisync.federation import registration
from medisync.federation.messages import (
    ARRAYS,
    CLIENT_RAISED,
    CONFIG,
    COUNT,
    DISTRIBUTION,
    METRICS,
    MOMENTS,
    ROUND,
    STATISTICS,
    TOTALS,
    EvaluateOrder,
    TrainOrder,
    arrays_from_state,
    from_arrays,
    to_arrays,
)
from medisync.model import local_batchnorm
from medisync.model.device import select_device
from medisync.model.weights import State
from medisync.schemas import Introduction
from medisync.training.dataset import HospitalData, ImageSet
from medisync.training.local import Outputs, RoundInstructions, localise, predict_images, train_locally
from medisync.training.seeds import derive_seed

ACTIVITIES = {"train": "training images", "val": "validation", "test": "test"}
"""What a hospital does while it scores a split."""

OpenHospital = Callable[[Context, int], tuple[str, HospitalData]]
"""From a node's own context, and the side that images are kept at, to the hospital's name and images."""

OnImages = Callable[[str, str, int, int], None]
"""Called with (hospital, what it is doing, round, images done since the last call)."""


def ignore_images(hospital: str, activity: str, round_number: int, images: int) -> None:
    pass


Introduce = Callable[[Context], Introduction]
"""What a hospital says of itself and of its data: once, before it takes part in a networked federation."""


def build(
    open_hospital: OpenHospital,
    introduce: Introduce | None = None,
    on_images: OnImages = ignore_images,
    mods: Sequence[Mod] = (),
) -> ClientApp:
    """The Flower app that every hospital runs; `open_hospital` is all that differs between them.

    `mods` are Flower's: what else happens to a message on its way in and to the reply on its way out.
    """
    app = ClientApp(mods=list(mods))

    def on_images_of(work: Work) -> Callable[[Message, Context], Message]:
        def answer(message: Message, context: Context) -> RecordDict:
            settings = TrainingConfig.model_validate_json(str(message.content.config_records[CONFIG]["training"]))
            return work(message, *open_hospital(context, settings.image_size), on_images)

        return _answering(answer)

    app.train()(on_images_of(_train))
    app.evaluate()(on_images_of(_evaluate))
    app.query()(on_images_of(_describe))
    if introduce is not None:
        app.query(registration.HELLO)(_answering(lambda _, context: registration.to_record(introduce(context))))
    return app


Work = Callable[[Message, str, HospitalData, OnImages], RecordDict]


def _answering(work: Callable[[Message, Context], RecordDict]) -> Callable[[Message, Context], Message]:
    """A mistake that a person can act on reaches the server as that sentence, in one process and over the network."""

    def reply(message: Message, context: Context) -> Message:
        try:
            return Message(work(message, context), reply_to=message)
        except MediSyncError as error:
            return Message(Error(code=CLIENT_RAISED, reason=str(error)), reply_to=message)

    return reply


def _train(message: Message, name: str, data: HospitalData, on_images: OnImages) -> RecordDict:
    config = message.content.config_records[CONFIG]
    order, round_number = TrainOrder.from_record(config), int(config[ROUND])  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(derive_seed(order.training.seed, round_number, name))
    update = train_locally(
        message.content.array_records[ARRAYS].to_torch_state_dict(),
        data["train"],
        RoundInstructions(order.training, order.learning_rate, order.image_size, order.proximal_mu),
        generator=generator,
        device=select_device(order.training.device),
        on_batch=partial(on_images, name, "training", round_number),
    )
    metrics = {"loss": update.loss, "accuracy": update.accuracy, "seconds": update.seconds}
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
    images, state = data[order.split], _own_state(message, order, name, data)
    outputs = _predict(state, order, images, partial(on_images, name, ACTIVITIES[order.split], round_number))
    known = message.content.array_records.get(DISTRIBUTION)
    totals = tally(
        images.labels,
        outputs.logits,
        images.groups,
        temperature=order.temperature,
        ood_scores=from_arrays(FeatureDistribution, known).ood_scores(outputs.features) if known else None,
        replicates=order.replicates,
        generator=np.random.default_rng(derive_seed(order.training.seed, order.split, name)),
    )
    return RecordDict(
        {
            TOTALS: to_arrays(totals),
            METRICS: MetricRecord({COUNT: len(images), **_means(totals)}),
            CONFIG: ConfigRecord({ROUND: round_number}),
        }
    )


def _describe(message: Message, name: str, data: HospitalData, on_images: OnImages) -> RecordDict:
    """The moments of the training images' features under the weights sent, and the hospital's own statistics where it has any."""
    config = message.content.config_records[CONFIG]
    order, images = EvaluateOrder.from_record(config), data["train"]
    state = _own_state(message, order, name, data)
    outputs = _predict(state, order, images, partial(on_images, name, "features", int(config[ROUND])))  # type: ignore[arg-type]
    content = RecordDict({MOMENTS: to_arrays(ood.feature_moments(images.labels, outputs.features))})
    if order.training.normalisation == "local":
        content[STATISTICS] = arrays_from_state(local_batchnorm.running_statistics(state))
    return content


def _own_state(message: Message, order: EvaluateOrder, name: str, data: HospitalData) -> State:
    """The weights sent, as this hospital uses them. The same images give the statistics whenever it is asked."""
    state = message.content.array_records[ARRAYS].to_torch_state_dict()
    if order.training.normalisation != "local":
        return state
    generator = np.random.default_rng(derive_seed(order.training.seed, "statistics", name))
    device = select_device(order.training.device)
    return localise(state, data["train"], device, generator, image_size=order.image_size)


def _predict(state: State, order: EvaluateOrder, images: ImageSet, on_batch: Callable[[int], None]) -> Outputs:
    return predict_images(state, images, select_device(order.training.device), on_batch, image_size=order.image_size)


def _means(totals: Totals) -> dict[str, float]:
    """Loss and accuracy per image; 0 without images, where the count of 0 keeps them out of every average."""
    count = max(1, int(totals.confusion.sum()))
    return {"loss": float(totals.loss[0]) / count, "accuracy": float(np.trace(totals.confusion)) / count}
