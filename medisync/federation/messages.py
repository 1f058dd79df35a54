"""What crosses between server and hospitals: the names in Flower's records, and the two things they carry."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from medisync.config import TrainingConfig
from medisync.evaluation import Totals
from medisync.model import State
from medisync.novelty import FeatureDistribution, Moments
from medisync.records import Split

ARRAYS, CONFIG, METRICS, TOTALS = "arrays", "config", "metrics", "totals"
DISTRIBUTION, MOMENTS = "distribution", "moments"
COUNT = "num-examples"
ROUND = "server-round"
TRAIN_METRICS = ("loss", "accuracy", "seconds", "norm")


@dataclass(frozen=True)
class TrainOrder:
    """What the server asks for in a training message."""

    training: TrainingConfig
    learning_rate: float
    image_size: int = 0
    """Side of the images in this round; 0 for what they are kept at."""
    renormalisation: float = 0.0
    """Strength of BatchRenorm in this round, from 0 to 1."""
    proximal_mu: float = 0.0
    """Flower's FedProx adds it to the message."""

    def to_record(self) -> ConfigRecord:
        rates = {"learning-rate": self.learning_rate, "renormalisation": self.renormalisation}
        return ConfigRecord({"training": self.training.model_dump_json(), "image-size": self.image_size, **rates})

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "TrainOrder":
        training = TrainingConfig.model_validate_json(str(record["training"]))
        rate, strength, mu = record["learning-rate"], record["renormalisation"], record.get("proximal-mu", 0.0)
        size = int(record["image-size"])  # type: ignore[arg-type]
        return cls(training, float(rate), size, float(strength), float(mu))  # type: ignore[arg-type]


@dataclass(frozen=True)
class EvaluateOrder:
    """What the server asks for in an evaluation message: totals of one split at one temperature."""

    training: TrainingConfig
    split: Split = "val"
    temperature: float = 1.0
    replicates: int = 0
    image_size: int = 0
    """Side of the images; 0 for what they are kept at."""

    def to_record(self) -> ConfigRecord:
        return ConfigRecord(
            {
                "training": self.training.model_dump_json(),
                "split": self.split,
                "temperature": self.temperature,
                "replicates": self.replicates,
                "image-size": self.image_size,
            }
        )

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "EvaluateOrder":
        return cls(
            TrainingConfig.model_validate_json(str(record["training"])),
            record["split"],  # type: ignore[arg-type]
            float(record["temperature"]),  # type: ignore[arg-type]
            int(record["replicates"]),  # type: ignore[arg-type]
            int(record["image-size"]),  # type: ignore[arg-type]
        )


def ask(grid: Grid, messages: Iterable[Message]) -> list[Message]:
    """Answers in the order of the nodes: a float sum must not depend on who was first."""
    return sorted(grid.send_and_receive(messages), key=lambda reply: reply.metadata.src_node_id)


def arrays_from_state(state: State) -> ArrayRecord:
    return ArrayRecord(dict(state))


Arrays = TypeVar("Arrays", Totals, Moments, FeatureDistribution)
"""Dataclasses of numpy arrays."""


def to_arrays(values: Totals | Moments | FeatureDistribution) -> ArrayRecord:
    return ArrayRecord({field.name: Array(getattr(values, field.name)) for field in fields(values)})


def from_arrays(kind: type[Arrays], record: ArrayRecord) -> Arrays:
    return kind(**{field.name: record[field.name].numpy() for field in fields(kind)})
