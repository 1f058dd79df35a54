"""What crosses between server and hospitals: the names in Flower's records, what they carry, and how it is asked for."""

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from medisync.config import TrainingConfig
from medisync.evaluation.ood import FeatureDistribution, FeatureMoments
from medisync.evaluation.totals import Totals
from medisync.federation.update_store import UpdateStore, in_place, record
from medisync.model import adam
from medisync.model.weights import State
from medisync.schemas import Refusal, Split

ARRAYS, CONFIG, METRICS, TOTALS = "arrays", "config", "metrics", "totals"
DISTRIBUTION, MOMENTS, STATISTICS = "distribution", "moments", "statistics"
COUNT = "num-examples"
ROUND = "server-round"
TRAIN_METRICS = ("loss", "accuracy", "seconds")

CLIENT_RAISED = 2
"""flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION."""

POLL_SECONDS = 0.5
"""Between two looks for replies; a look that finds nothing costs the server a millisecond."""


@dataclass(frozen=True)
class TrainOrder:
    """What the server asks for in a training message."""

    training: TrainingConfig
    learning_rate: float
    image_size: int = 0
    """Side of the images in this round; 0 for what they are kept at."""
    proximal_mu: float = 0.0
    """Flower's FedProx adds it to the message."""

    def to_record(self) -> ConfigRecord:
        return ConfigRecord(
            {
                "training": self.training.model_dump_json(),
                "learning-rate": self.learning_rate,
                "image-size": self.image_size,
            }
        )

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "TrainOrder":
        training = TrainingConfig.model_validate_json(str(record["training"]))
        rate, mu = record["learning-rate"], record.get("proximal-mu", 0.0)
        size = int(record["image-size"])  # type: ignore[arg-type]
        return cls(training, float(rate), size, float(mu))  # type: ignore[arg-type]


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


@dataclass(frozen=True)
class Participants:
    """Who takes part now: the hospitals' names by node, and the members that do not, with the reason."""

    hospitals: Mapping[int, str]
    absent: tuple[Refusal, ...] = ()

    def get_node_ids(self) -> list[int]:
        """As much of a grid as Flower's strategies look at when they draw participants: in the order of the names, so that
        the same draw means the same hospitals whatever their nodes are called.
        """
        return sorted(self.hospitals, key=self.hospitals.__getitem__)


@dataclass(frozen=True)
class Exchange:
    """What came of one question to several hospitals."""

    replies: list[Message]
    """In the order of the hospitals' names, whoever was first: a float sum must not depend on that, nor on node numbers."""
    silent: list[Refusal]
    """Hospitals from which nothing came."""
    sent: dict[int, int]
    """Bytes of the arrays sent to each node."""
    received: dict[int, int]
    """Bytes of the arrays that came back: counted on arrival, because screening leaves out what a strategy must not see."""

    @property
    def unheard(self) -> set[str]:
        """Names of the silent: to ask them the next question too would cost another deadline."""
        return {each.hospital for each in self.silent}


def ask(
    grid: Grid,
    messages: Iterable[Message],
    hospitals: Mapping[int, str],
    deadline: float,
    store: UpdateStore | None = None,
) -> Exchange:
    """Sends every message and waits for the replies, at most `deadline` seconds. Weights in them wait in `store`, if given."""
    questions = sorted(messages, key=lambda message: hospitals[message.metadata.dst_node_id])
    names = list(grid.push_messages(questions))
    # after the push: as the grid packed them
    sent = {message.metadata.dst_node_id: array_bytes(message.content) for message in questions}
    waiting = dict(zip(names, sent, strict=True))
    replies, silent, received = dict[str, Message](), dict[str, str](), dict[int, int]()
    end, late = time.monotonic() + deadline, f"did not answer within {deadline:g} s"
    while True:
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id)
            received[node] = array_bytes(reply.content) if reply.has_content() else 0
            if store and reply.has_content() and ARRAYS in reply.content:
                reply.content[ARRAYS] = store.put_aside(reply.content.array_records[ARRAYS])
            if reply.has_error() and reply.metadata.src_node_id != node:  # the network answers in the node's place
                unreachable = f"could not be reached: {reply.error.reason}"
                silent[hospitals[node]] = unreachable if time.monotonic() < end else late
            else:
                replies[hospitals[node]] = reply
        if not waiting or time.monotonic() >= end:
            break
        time.sleep(POLL_SECONDS)
    silent |= {hospitals[node]: late for node in waiting.values()}
    return Exchange(
        [replies[name] for name in sorted(replies)],
        [Refusal(hospital=name, reason=reason) for name, reason in sorted(silent.items())],
        sent,
        received,
    )


class Opened(RecordDict):
    """A content that travelled in another form, and what its arrays weighed on the way, in bytes."""

    def __init__(self, weight: int, content: RecordDict) -> None:
        super().__init__(dict(content))
        self.weight = weight


def array_bytes(content: RecordDict) -> int:
    """What the arrays of a message weigh as they travel, packed or not; all else in it is small."""
    if isinstance(content, Opened):
        return content.weight
    arrays = (array for record in content.array_records.values() for array in record.values())
    blocks = (value for record in content.config_records.values() for value in record.values())
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays) + sum(
        len(block) for block in blocks if isinstance(block, bytes)
    )


def arrays_from_state(state: State) -> ArrayRecord:
    """Of a state that nobody changes any more: the arrays are its memory."""
    return in_place({key: tensor.detach().cpu().numpy() for key, tensor in state.items()})


def digest(arrays: ArrayRecord) -> str:
    """SHA-256 of the values, in the order of their names."""
    found = hashlib.sha256()
    for key in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[key].numpy()).data)
    return found.hexdigest()


def weights_only(arrays: ArrayRecord) -> ArrayRecord:
    """Without Adam's memory, which only training needs."""
    return record({key: array for key, array in arrays.items() if not adam.is_moment(key)})


Arrays = TypeVar("Arrays", Totals, FeatureMoments, FeatureDistribution)
"""Dataclasses of numpy arrays."""


def to_arrays(values: Totals | FeatureMoments | FeatureDistribution) -> ArrayRecord:
    return ArrayRecord({field.name: Array(getattr(values, field.name)) for field in fields(values)})


def from_arrays(kind: type[Arrays], record: ArrayRecord) -> Arrays:
    return kind(**{field.name: record[field.name].numpy() for field in fields(kind)})
