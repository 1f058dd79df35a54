"""What a hospital does with a message from the server: its policy is applied before any image is touched.

The rules see the message as the client app will see it, unpacked. The server's words about a run (`run_request`) are held
against the message itself and against what this hospital has counted (`ledger`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp.typing import Mod

from medisync.config import TrainingConfig
from medisync.errors import MediSyncError, UpdateError
from medisync.federation.messages import CONFIG, COUNT, METRICS, ROUND, error_reply
from medisync.federation.registration import AWAITS_APPROVAL, HELLO
from medisync.network import run_request
from medisync.network.ledger import MOST_WAITING, Accounts, Ledger, RunAccount
from medisync.network.policy import Policy, is_within
from medisync.network.release import is_small
from medisync.network.run_request import RunRequest
from medisync.schemas import DatasetStats, Introduction

TRAIN, EVALUATE, DESCRIBE, INTRODUCE = (
    MessageType.TRAIN,
    MessageType.EVALUATE,
    MessageType.QUERY,
    f"{MessageType.QUERY}.{HELLO}",
)
"""The kinds of messages that a hospital answers: it trains, evaluates, describes its training images, introduces itself."""

WORK = (TRAIN, EVALUATE, DESCRIBE)

REFUSES = "its policy refuses this"


@dataclass(frozen=True)
class Question:
    """A message from the server, with what the hospital holds against it."""

    kind: str
    request: RunRequest
    config: ConfigRecord
    """Instructions; empty for an introduction."""
    policy: Policy
    accounts: Accounts
    known: Introduction
    """The hospital's own images, in numbers of which nothing is left out."""
    now: datetime
    """By the hospital's clock, with its time zone."""

    @property
    def account(self) -> RunAccount:
        return self.accounts.of(self.request, self.now)

    @property
    def round_number(self) -> int:
        """Raises UpdateError if the message does not say it."""
        number = self.config.get(ROUND)
        if not isinstance(number, int):
            raise UpdateError("the message does not say which round it belongs to")
        return number


class Journal(Protocol):
    """Where decisions are recorded."""

    def append(self, entry: Mapping[str, Any]) -> object: ...


@dataclass(frozen=True)
class Desk:
    """What a hospital's node needs to decide on a message."""

    policy: Policy
    ledger: Ledger
    known: Introduction
    journal: Journal


def enforcing(open_desk: Callable[[Context], Desk], clock: Callable[[], datetime]) -> Mod:
    """Returns a Flower mod that answers with a refusal where the policy forbids what a message asks for.

    It has to be the innermost: what it has seen is what the client app sees. `clock` returns the time with its zone.
    """

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        try:
            desk = open_desk(context)
            admit(desk, message, clock())
        except MediSyncError as error:
            return error_reply(message, str(error))
        reply: Message = call_next(message, context)
        if message.metadata.message_type == TRAIN and reply.has_content():
            _release_count(reply.content, desk)
        return reply

    return mod


def admit(desk: Desk, message: Message, now: datetime) -> None:
    """Records the decision on a message, counts what it asks for, and raises UpdateError if it is refused."""
    with desk.ledger.changing() as (accounts, replace):
        kind = message.metadata.message_type
        try:
            question = _read(kind, message.content, desk, accounts, now)
        except UpdateError as error:
            _record(desk, {"kind": kind}, "request", str(error))
            raise UpdateError(f"{REFUSES} (request): {error}") from None
        rule, sentence = judge(question)
        about = {"kind": kind, "request": question.request.short_name, "named": question.request.run}
        _record(desk, about | ({"round": question.round_number} if kind in WORK else {}), rule, sentence)
        if AWAITS_APPROVAL in sentence:
            replace(accounts.with_account(question.account))
        if rule:
            raise UpdateError(f"{REFUSES} ({rule}): {sentence}")
        if kind == TRAIN:
            replace(accounts.with_training(question.account, now))
        elif kind in WORK:
            replace(accounts.with_evaluation(question.account, now))


def judge(question: Question) -> tuple[str, str]:
    """Returns the name of the first rule that forbids what is asked, and why, or two empty strings."""
    for name, rule in RULES.items():
        if sentence := rule(question):
            return name, sentence
    return "", ""


def released_images(known: Introduction, split: str, smallest: int) -> int:
    """Returns the number of images of a split that may be told: of the classes that have at least `smallest`."""
    return sum(count for count in _class_counts(known.stats, split).values() if count >= smallest)


def _read(kind: str, content: RecordDict, desk: Desk, accounts: Accounts, now: datetime) -> Question:
    if kind not in (*WORK, INTRODUCE):
        raise UpdateError("the message is of a kind that no hospital answers")
    request = run_request.read(content)
    config = content.config_records.get(CONFIG, ConfigRecord()) if kind in WORK else ConfigRecord()
    question = Question(kind, request, config, desk.policy, accounts, desk.known, now)
    if kind in WORK:
        _require_stated(question)
    return question


def _require_stated(question: Question) -> None:
    """Raises UpdateError unless the instructions are those that the run has stated."""
    config, request = question.config, question.request
    try:
        training = TrainingConfig.model_validate_json(str(config["training"]))
        size, proximal = int(config.get("image-size", 0)), float(config.get("proximal-mu", 0.0))  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError, OverflowError):
        raise UpdateError("its instructions cannot be read") from None
    if training != request.training or not 0 <= size <= request.training.image_size:
        raise UpdateError("it asks for other settings than the run has stated")
    if not 0 <= question.round_number <= request.federation.rounds:
        raise UpdateError(f"its round is not one of the {request.federation.rounds} that the run has stated")
    if proximal != (request.federation.proximal_mu if _trains_with_fedprox(question) else 0.0):
        raise UpdateError("its proximal term is not the one that the run has stated")


def _trains_with_fedprox(question: Question) -> bool:
    return question.kind == TRAIN and question.request.federation.strategy == "fedprox"


def _record(desk: Desk, about: Mapping[str, Any], rule: str, sentence: str) -> None:
    """Appends the decision to the journal. Sentences hold numbers and names of settings only."""
    decision = {"decision": "refused", "rule": rule, "sentence": sentence} if rule else {"decision": "allowed"}
    desk.journal.append({"event": "decision", **about, **decision})


def _release_count(content: RecordDict, desk: Desk) -> None:
    """Leaves out of an update's number of images the classes of which no number may leave."""
    smallest = desk.policy.release.smallest_count
    if smallest > 1 and METRICS in content.metric_records:
        metrics = dict(content.metric_records[METRICS])
        told = released_images(desk.known, "train", smallest)
        content[METRICS] = MetricRecord({**metrics, COUNT: told})


def _class_counts(stats: DatasetStats, split: str) -> dict[str, int]:
    return {str(label): count for label, count in dict(stats.splits).get(split, {}).items()}  # type: ignore[call-overload]


def _recipe(question: Question) -> str:
    allowed = question.policy.recipe.allowed
    if not allowed or question.request.recipe in allowed:
        return ""
    return f"the training settings {question.request.recipe[:12]} are not among those that it allows"


def _strategy(question: Question) -> str:
    allowed, asked = question.policy.recipe.strategies, question.request.federation.strategy
    return "" if asked in allowed else f"the strategy is {asked}, allowed are {', '.join(allowed) or 'none'}"


def _local_epochs(question: Question) -> str:
    most, asked = question.policy.recipe.most_local_epochs, question.request.training.local_epochs
    return "" if asked <= most else f"{asked:g} epochs a round, allowed are {most:g}"


def _image_size(question: Question) -> str:
    rules, asked = question.policy.recipe, question.request.training.image_size
    if rules.smallest_image_size <= asked <= rules.largest_image_size:
        return ""
    return f"images of {asked} pixels, allowed are {rules.smallest_image_size} to {rules.largest_image_size}"


def _rounds_per_run(question: Question) -> str:
    most, asked = question.policy.limits.rounds_per_run, question.request.federation.rounds
    if asked > most:
        return f"{asked} rounds, allowed are {most}"
    used_up = question.kind == TRAIN and question.account.rounds >= most
    return f"the run has begun {most} trainings, and no more are allowed" if used_up else ""


def _rounds_per_week(question: Question) -> str:
    most = question.policy.limits.rounds_per_week
    used_up = question.kind == TRAIN and question.accounts.rounds_in_week(question.now) >= most
    return f"{most} trainings were begun within seven days, and no more are allowed" if used_up else ""


def _evaluations_per_run(question: Question) -> str:
    most = question.policy.limits.evaluations_per_run
    used_up = question.kind in (EVALUATE, DESCRIBE) and question.account.evaluations >= most
    return f"the run has had {most} evaluations, and no more are allowed" if used_up else ""


def _evaluations_per_week(question: Question) -> str:
    most = question.policy.limits.evaluations_per_week
    used_up = question.kind in (EVALUATE, DESCRIBE) and question.accounts.evaluations_in_week(question.now) >= most
    return f"{most} evaluations were begun within seven days, and no more are allowed" if used_up else ""


def _hours(question: Question) -> str:
    allowed, now = question.policy.limits.hours, question.now.time()
    if question.kind != TRAIN or any(is_within(now, hours) for hours in allowed):
        return ""
    return f"it trains at {', '.join(allowed)} by its own clock"


def _fewest_images(question: Question) -> str:
    fewest = question.policy.participation.fewest_images
    return "" if question.known.stats.total >= fewest else f"it has fewer than {fewest} images"


def _fewest_patients(question: Question) -> str:
    fewest, found = question.policy.participation.fewest_patients, question.known.audit.patients
    return "" if not found or found >= fewest else f"it has images of fewer than {fewest} patients"


def _small_counts(question: Question) -> str:
    smallest = question.policy.release.smallest_count
    if question.kind == TRAIN and not released_images(question.known, "train", smallest):
        return f"it has no class of at least {smallest} training images, so that no number of images may leave"
    if question.kind != EVALUATE:
        return ""
    split = str(question.config.get("split"))
    small = any(is_small(count, smallest) for count in _class_counts(question.known.stats, split).values())
    return f"its {split} images are fewer than {smallest} of some class, and are not evaluated" if small else ""


def _evaluation_totals(question: Question) -> str:
    asked = question.kind == EVALUATE and question.config.get("detail") != "scores"
    return "totals of an evaluation do not leave it" if asked and not question.policy.release.evaluation_totals else ""


def _feature_statistics(question: Question) -> str:
    asked = question.kind == DESCRIBE
    return "sums of features do not leave it" if asked and not question.policy.release.feature_statistics else ""


def _batchnorm_statistics(question: Question) -> str:
    """With "averaged" they are in every update; with "local" they leave when the training images are described."""
    normalisation = question.request.training.normalisation
    asked = normalisation == "averaged" or (normalisation == "local" and question.kind == DESCRIBE)
    return "BatchNorm statistics do not leave it" if asked and not question.policy.release.batchnorm_statistics else ""


def _epsilon_per_run(question: Question) -> str:
    most, asked = question.policy.epsilon.per_run, question.request.epsilon
    if most is None or (asked is not None and asked <= most):
        return ""
    return f"the run states {_as_epsilon(asked)}, allowed is {most:g}"


def _epsilon_in_total(question: Question) -> str:
    most, asked = question.policy.epsilon.in_total, question.request.epsilon
    spent = question.accounts.epsilon_of_others(question.request)
    if most is None or (asked is not None and spent + asked <= most):
        return ""
    return f"the run states {_as_epsilon(asked)}, of {most:g} in total {spent:g} is spent"


def _as_epsilon(asked: float | None) -> str:
    return "no epsilon" if asked is None else f"epsilon {asked:g}"


def _approval(question: Question) -> str:
    """Comes last: a person is asked only for what all other rules allow."""
    decision, name = question.account.decision, question.request.short_name
    if decision == "denied":
        return f"the run {name} was denied by its administrator"
    if not question.policy.participation.approval or decision == "approved":
        return ""
    waiting = question.accounts.waiting()
    if question.request.name not in waiting and len(waiting) >= MOST_WAITING:
        return f"{len(waiting)} runs wait for approval, and no more may"
    return f"the run {name} {AWAITS_APPROVAL} by its administrator"


RULES: Mapping[str, Callable[[Question], str]] = {
    "recipe": _recipe,
    "strategy": _strategy,
    "local-epochs": _local_epochs,
    "image-size": _image_size,
    "rounds-per-run": _rounds_per_run,
    "rounds-per-week": _rounds_per_week,
    "evaluations-per-run": _evaluations_per_run,
    "evaluations-per-week": _evaluations_per_week,
    "hours": _hours,
    "fewest-images": _fewest_images,
    "fewest-patients": _fewest_patients,
    "small-counts": _small_counts,
    "evaluation-totals": _evaluation_totals,
    "feature-statistics": _feature_statistics,
    "batchnorm-statistics": _batchnorm_statistics,
    "epsilon-per-run": _epsilon_per_run,
    "epsilon-in-total": _epsilon_in_total,
    "approval": _approval,
}
"""The rules by the names that a refusal gives; "request" stands for a message that fits no run as it was stated."""
