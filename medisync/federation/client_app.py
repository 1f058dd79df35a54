"""The hospital's side of a federation: training and evaluation of the global model on images that never leave it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from medisync.config import TrainingConfig
from medisync.errors import MediSyncError
from medisync.evaluation import ood
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import Totals, for_release, tally
from medisync.federation import registration
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    COUNT,
    DISTRIBUTION,
    METRICS,
    MOMENTS,
    ROUND,
    STATISTICS,
    TOTALS,
    EvaluateInstructions,
    TrainInstructions,
    arrays_from_state,
    error_reply,
    from_arrays,
    to_arrays,
)
from medisync.federation.observer import TrainingObserver
from medisync.model import adam, local_batchnorm
from medisync.model.device import select_device
from medisync.model.weights import State
from medisync.schemas import LABELS, Introduction
from medisync.training.dataset import HospitalData, ImageSet
from medisync.training.local import (
    Outputs,
    Update,
    localise,
    predict_images,
    train_locally,
    under_own_prior,
)
from medisync.training.seeds import derive_seed

ACTIVITIES = {"train": "training images", "val": "validation", "test": "test"}
"""Activity that an observer is told of while a hospital evaluates a split."""

MEAN_DECIMALS = 4
"""Decimals of a round's means that leave a hospital."""

FEWEST_IMAGES_OF_A_CLASS = 3
"""Training images of a class of which the summed features may leave a hospital: of one or two images the sum and the outer
products give the features themselves.
"""

OpenHospital = Callable[[Context, int], tuple[str, HospitalData]]
"""Returns the hospital's name and images, given its node's context and the side at which images are stored."""

Introduce = Callable[[Context], Introduction]
"""Returns a hospital's introduction, which it sends before it takes part in a networked federation."""


@dataclass(frozen=True)
class _Task:
    """One message, opened at the hospital that received it."""

    message: Message
    hospital: str
    data: HospitalData
    observer: TrainingObserver
    fewest_of_a_class: int

    @property
    def config(self) -> ConfigRecord:
        return self.message.content.config_records[CONFIG]

    @property
    def round_number(self) -> int:
        return int(self.config[ROUND])  # type: ignore[arg-type]

    @property
    def weights(self) -> State:
        return self.message.content.array_records[ARRAYS].to_torch_state_dict()

    def reporting(self, activity: str) -> Callable[[int], None]:
        """Returns a function that tells the observer how many more images were processed."""
        return partial(self.observer.images_processed, self.hospital, activity, self.round_number)


def build(
    open_hospital: OpenHospital,
    introduce: Introduce | None = None,
    observer: TrainingObserver | None = None,
    mods: Sequence[Mod] = (),
    fewest_of_a_class: Callable[[Context], int] = lambda context: FEWEST_IMAGES_OF_A_CLASS,
) -> ClientApp:
    """Returns the Flower app that every hospital runs; hospitals differ only in `open_hospital`.

    `mods` are Flower's: functions that see each message on its way in and each reply on its way out.
    `fewest_of_a_class` returns the number of training images of a class below which its summed features stay at the hospital.
    """
    app = ClientApp(mods=list(mods))

    def answering(work: Callable[[_Task], RecordDict]) -> Callable[[Message, Context], Message]:
        def answer(message: Message, context: Context) -> RecordDict:
            settings = TrainingConfig.model_validate_json(str(message.content.config_records[CONFIG]["training"]))
            hospital, data = open_hospital(context, settings.image_size)
            fewest = max(fewest_of_a_class(context), FEWEST_IMAGES_OF_A_CLASS)
            return work(_Task(message, hospital, data, observer or TrainingObserver(), fewest))

        return _reporting_errors(answer)

    app.train()(answering(_train))
    app.evaluate()(answering(_evaluate))
    app.query()(answering(_summarise_training))
    if introduce is not None:
        app.query(registration.HELLO)(_reporting_errors(lambda _, context: registration.to_record(introduce(context))))
    return app


def _reporting_errors(work: Callable[[Message, Context], RecordDict]) -> Callable[[Message, Context], Message]:
    """Turns a MediSyncError into an error reply, so that its message reaches the server."""

    def reply(message: Message, context: Context) -> Message:
        try:
            return Message(work(message, context), reply_to=message)
        except MediSyncError as error:
            return error_reply(message, str(error))

    return reply


def _train(task: _Task) -> RecordDict:
    update = _train_locally(task, TrainInstructions.from_record(task.config))
    metrics = _rounded({"loss": update.loss, "accuracy": update.accuracy, "seconds": update.seconds})
    return RecordDict(
        {
            ARRAYS: arrays_from_state(update.state),
            METRICS: MetricRecord({COUNT: update.images, **metrics}),
            CONFIG: ConfigRecord({ROUND: task.round_number}),
        }
    )


def _train_locally(task: _Task, instructions: TrainInstructions) -> Update:
    seed = derive_seed(instructions.training.seed, task.round_number, task.hospital)
    return train_locally(
        task.weights,
        task.data["train"],
        instructions,
        generator=torch.Generator().manual_seed(seed),
        device=select_device(instructions.training.device),
        on_batch=task.reporting("training"),
    )


def _evaluate(task: _Task) -> RecordDict:
    instructions = EvaluateInstructions.from_record(task.config)
    images, state = task.data[instructions.split], _own_state(task, instructions)
    prior = instructions.training.missing_class_prior if instructions.own_prior else 1.0
    raw = _predict(state, instructions, images, task.reporting(ACTIVITIES[instructions.split]))
    outputs = under_own_prior(raw, task.data["train"].labels, prior)
    distribution = task.message.content.array_records.get(DISTRIBUTION)
    fitted = from_arrays(FeatureDistribution, distribution) if distribution else None
    totals = tally(
        images.labels,
        outputs.logits,
        images.groups,
        temperature=instructions.temperature,
        ood_scores=fitted.ood_scores(outputs.features) if fitted else None,
        ood_threshold=instructions.ood_threshold,
        covariances=instructions.detail == "intervals",
    )
    means = MetricRecord({COUNT: len(images), **_means(totals)})
    content = RecordDict({METRICS: means, CONFIG: ConfigRecord({ROUND: task.round_number})})
    if instructions.detail != "scores":
        content[TOTALS] = to_arrays(for_release(totals))
    return content


def _summarise_training(task: _Task) -> RecordDict:
    """Returns the moments of the training images' features, and the hospital's running statistics if it has its own."""
    instructions, images = EvaluateInstructions.from_record(task.config), task.data["train"]
    state = _own_state(task, instructions)
    outputs = _predict(state, instructions, images, task.reporting("features"))
    enough = np.bincount(images.labels, minlength=len(LABELS))[images.labels] >= task.fewest_of_a_class
    moments = ood.feature_moments(images.labels[enough], outputs.features[enough])
    content = RecordDict({MOMENTS: to_arrays(moments)})
    if instructions.training.normalisation == "local":
        content[STATISTICS] = arrays_from_state(local_batchnorm.running_statistics(state))
    return content


def _own_state(task: _Task, instructions: EvaluateInstructions) -> State:
    """Returns the received weights as this hospital uses them; its statistics always come from the same images."""
    weights, _ = adam.split_moments(task.weights)
    if instructions.training.normalisation != "local":
        return weights
    generator = np.random.default_rng(derive_seed(instructions.training.seed, "statistics", task.hospital))
    device = select_device(instructions.training.device)
    return localise(weights, task.data["train"], device, generator, image_size=instructions.image_size)


def _predict(
    state: State, instructions: EvaluateInstructions, images: ImageSet, on_batch: Callable[[int], None]
) -> Outputs:
    device = select_device(instructions.training.device)
    return predict_images(state, images, device, on_batch, image_size=instructions.image_size)


def _means(totals: Totals) -> dict[str, float]:
    """Returns loss and accuracy per image; 0 without images, which the count of 0 keeps out of every average."""
    count = max(1, int(totals.confusion.sum()))
    means = {"loss": float(totals.loss[0]) / count, "accuracy": float(np.trace(totals.confusion)) / count}
    return _rounded(means)


def _rounded(means: dict[str, float]) -> dict[str, float]:
    return {name: round(value, MEAN_DECIMALS) for name, value in means.items()}
