"""Messages between server and hospitals: the names of Flower's records, what they carry, and how they are exchanged."""

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from medisync.config import TrainingConfig
from medisync.evaluation.ood import FeatureDistribution, FeatureMoments
from medisync.evaluation.totals import Totals
from medisync.federation.update_store import UpdateStore, in_place, record
from medisync.model import adam
from medisync.model.weights import State
from medisync.schemas import Refusal, Split
from medisync.training.local import RoundInstructions

ARRAYS, CONFIG, METRICS, TOTALS = "arrays", "config", "metrics", "totals"
DISTRIBUTION, MOMENTS, STATISTICS = "distribution", "moments", "statistics"
CHANGE = "change"
"""How the arrays follow from those of the last round; beside them in a message, for nodes that have those."""
COUNT = "num-examples"
ROUND = "server-round"
HAND_ON = "hand-on-moments"

CLIENT_RAISED = 2
"""flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION."""

POLL_SECONDS = 0.5
"""Pause between two polls for replies; a poll that finds nothing costs the server a millisecond."""


@dataclass(frozen=True)
class TrainInstructions(RoundInstructions):
    """Instructions of a training message: how a hospital trains in this round. Flower's FedProx adds `proximal_mu`."""

    hand_on_moments: bool = True
    """Whether the reply is to hold Adam's second moments where hospitals share them and changes are sent."""

    def to_record(self) -> ConfigRecord:
        return ConfigRecord(
            {
                "training": self.training.model_dump_json(),
                "learning-rate": self.learning_rate,
                "image-size": self.image_size,
                "weak-labels": self.weak_labels,
                HAND_ON: self.hand_on_moments,
            }
        )

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "TrainInstructions":
        training = TrainingConfig.model_validate_json(str(record["training"]))
        rate, mu = record["learning-rate"], record.get("proximal-mu", 0.0)
        size = int(record["image-size"])  # type: ignore[arg-type]
        weak, hand_on = bool(record.get("weak-labels", False)), bool(record[HAND_ON])
        return cls(training, float(rate), size, float(mu), weak, hand_on)  # type: ignore[arg-type]


Detail = Literal["scores", "totals", "intervals"]
"""Answers to an evaluation: nothing but the means, as in a round; the totals, from which calibration is fitted; or the
totals with their covariances, from which intervals follow."""


@dataclass(frozen=True)
class EvaluateInstructions:
    """Instructions of an evaluation message: the totals of one split, at one temperature."""

    training: TrainingConfig
    split: Split = "val"
    temperature: float = 1.0
    detail: Detail = "scores"
    """The part of the answer that leaves the hospital beside its number of images and their mean loss and accuracy."""
    image_size: int = 0
    """Side of the images; 0 for the stored size."""
    ood_threshold: float = math.inf
    """OOD score above which an image is flagged."""
    own_prior: bool = True
    """Whether the hospital predicts its scans under its own prior, or as scans of a hospital that is not known."""

    def to_record(self) -> ConfigRecord:
        return ConfigRecord(
            {
                "training": self.training.model_dump_json(),
                "split": self.split,
                "temperature": self.temperature,
                "detail": self.detail,
                "image-size": self.image_size,
                "ood-threshold": self.ood_threshold,
                "own-prior": self.own_prior,
            }
        )

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "EvaluateInstructions":
        return cls(
            TrainingConfig.model_validate_json(str(record["training"])),
            record["split"],  # type: ignore[arg-type]
            float(record["temperature"]),  # type: ignore[arg-type]
            record["detail"],  # type: ignore[arg-type]
            int(record["image-size"]),  # type: ignore[arg-type]
            float(record["ood-threshold"]),  # type: ignore[arg-type]
            bool(record["own-prior"]),
        )


@dataclass(frozen=True)
class Participants:
    """The hospitals that can take part in a round."""

    hospitals: Mapping[int, str]
    """Names by Flower node."""
    absent: tuple[Refusal, ...] = ()
    """Members that cannot take part, with the reason."""

    def get_node_ids(self) -> list[int]:
        """Returns the nodes in the order of the hospitals' names.

        It is all that Flower's strategies ask of a grid when they sample participants; in this order the same draw
        means the same hospitals, whatever numbers their nodes have.
        """
        return sorted(self.hospitals, key=self.hospitals.__getitem__)


@dataclass(frozen=True)
class Reply:
    """A hospital's reply to one message."""

    hospital: str
    content: RecordDict
    """Empty where the hospital reports an error."""
    error: str = ""
    """Why the hospital could not do what it was asked for; empty if it did."""


@dataclass(frozen=True)
class Exchange:
    """The result of sending one message to each of several hospitals."""

    replies: list[Reply]
    """In the order of the hospitals' names: a float sum must depend neither on who was first nor on node numbers."""
    silent: list[Refusal]
    """Hospitals that did not reply, with the reason."""
    sent: Mapping[str, int]
    """Bytes of the arrays sent to each hospital."""
    received: Mapping[str, int]
    """Bytes of the arrays received from each hospital."""

    @property
    def unheard(self) -> set[str]:
        """Names of the silent hospitals: asking them again in the same round would cost another deadline."""
        return {each.hospital for each in self.silent}


NO_EXCHANGE = Exchange([], [], {}, {})


def ask(
    grid: Grid,
    messages: Iterable[Message],
    hospitals: Mapping[int, str],
    deadline: float,
    store: UpdateStore | None = None,
) -> Exchange:
    """Sends the messages and collects replies for at most `deadline` seconds; their weights go to `store`, if given."""
    questions = sorted(messages, key=lambda message: hospitals[message.metadata.dst_node_id])
    names = [hospitals[question.metadata.dst_node_id] for question in questions]
    waiting = dict(zip(grid.push_messages(questions), names, strict=True))
    # after the push: as the grid packed them
    sent = {name: array_bytes(question.content) for name, question in zip(names, questions, strict=True)}
    replies, silent, received = dict[str, Reply](), dict[str, str](), dict[str, int]()
    end, late = time.monotonic() + deadline, f"did not answer within {deadline:g} s"
    while True:
        for message in grid.pull_messages(list(waiting)):
            name = waiting.pop(message.metadata.reply_to_message_id)
            received[name] = array_bytes(message.content) if message.has_content() else 0
            if message.has_error() and hospitals.get(message.metadata.src_node_id) != name:  # the network's own answer
                unreachable = f"could not be reached: {message.error.reason}"
                silent[name] = unreachable if time.monotonic() < end else late
            else:
                replies[name] = _to_reply(name, message, store)
            del message  # or its arrays would stay in memory while the next reply is made
        if not waiting or time.monotonic() >= end:
            break
        time.sleep(POLL_SECONDS)
    silent |= dict.fromkeys(waiting.values(), late)
    return Exchange(
        [replies[name] for name in sorted(replies)],
        [Refusal(hospital=name, reason=reason) for name, reason in sorted(silent.items())],
        sent,
        received,
    )


def _to_reply(hospital: str, message: Message, store: UpdateStore | None) -> Reply:
    if message.has_error():
        return Reply(hospital, RecordDict(), message.error.reason or "no reason given")
    content = message.content if message.has_content() else RecordDict()
    if store and ARRAYS in content.array_records:
        stored = {ARRAYS: store.put_aside(content.array_records[ARRAYS])}
        return Reply(hospital, RecordDict({**content, **stored}))
    return Reply(hospital, content)


def error_reply(question: Message, reason: str) -> Message:
    """Returns a hospital's answer that it could not, or would not, do what it was asked for."""
    return Message(Error(code=CLIENT_RAISED, reason=reason), reply_to=question)


class UnpackedContent(RecordDict):
    """Content that travelled in packed form, with the bytes that its arrays took on the way."""

    def __init__(self, packed_bytes: int, content: RecordDict) -> None:
        super().__init__(dict(content))
        self.packed_bytes = packed_bytes


def array_bytes(content: RecordDict) -> int:
    """Returns the bytes that a message's arrays take as they travel, packed or not; all else in it is small."""
    if isinstance(content, UnpackedContent):
        return content.packed_bytes
    arrays = (array for record in content.array_records.values() for array in record.values())
    blocks = (value for record in content.config_records.values() for value in record.values())
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays) + sum(
        len(block) for block in blocks if isinstance(block, bytes)
    )


def arrays_from_state(state: State) -> ArrayRecord:
    """Returns the tensors of `state` as arrays that share their memory: nothing may change the state afterwards."""
    return in_place({key: tensor.detach().cpu().numpy() for key, tensor in state.items()})


def to_values(arrays: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Returns the values by key, not copied."""
    return {key: array.numpy() for key, array in arrays.items()}


def digest(arrays: ArrayRecord) -> str:
    """Returns the SHA-256 of the values, in the order of their names."""
    found = hashlib.sha256()
    for key in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[key].numpy()).data)
    return found.hexdigest()


def weights_only(arrays: ArrayRecord) -> ArrayRecord:
    """Returns the arrays without Adam's moments, which only training needs."""
    return record({key: array for key, array in arrays.items() if not adam.is_moment(key)})


Arrays = TypeVar("Arrays", Totals, FeatureMoments, FeatureDistribution)
"""Dataclasses of numpy arrays."""


def to_arrays(values: Totals | FeatureMoments | FeatureDistribution) -> ArrayRecord:
    return ArrayRecord({field.name: Array(getattr(values, field.name)) for field in fields(values)})


def from_arrays(kind: type[Arrays], record: ArrayRecord) -> Arrays:
    return kind(**{field.name: record[field.name].numpy() for field in fields(kind)})
