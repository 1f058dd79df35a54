"""The hospital's rules on real messages: each is refused by name before an image is opened, and counted if it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import recipes
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.errors import ArtifactError, ConfigError
from medisync.federation import simulation
from medisync.federation.messages import CONFIG, COUNT, METRICS, ROUND, EvaluateInstructions, TrainInstructions
from medisync.federation.registration import HELLO
from medisync.network import enforcement
from medisync.network.enforcement import Desk
from medisync.network.ledger import Ledger
from medisync.network.policy import Policy
from medisync.network.run_request import REQUEST, RunRequest
from medisync.schemas import DatasetStats, HospitalAudit, Introduction, Location

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
TRAINING = recipes.training(image_size=64, normalisation="group")
REQUESTED = RunRequest(run="run-001", training=TRAINING, federation=recipes.federation(normalisation="group"))
OPEN = {"participation": {"approval": False}}


def introduction(patients: int = 0, **splits: dict[str, int]) -> Introduction:
    parts = {"train": {"glioma": 70, "notumor": 70}, "val": {"glioma": 15, "notumor": 15}, **splits}
    labels = {label: sum(counts.get(label, 0) for counts in parts.values()) for label in ("glioma", "notumor")}
    total = sum(labels.values())
    stats = DatasetStats(total=total, class_distribution=labels, location=Location(lat=0, lon=0), splits=parts)
    zeros = dict.fromkeys(("unresolved", "unreadable", "quarantined", "exact_copies", "near_copies"), 0)
    audit = HospitalAudit(
        path="", folders=[], class_distribution=labels, total=total, skipped={}, sizes={}, modes={}, notes=[],
        patients=patients, **zeros,
    )  # fmt: skip
    return Introduction(
        hospital="North", version="1", labels=list(labels), synthetic=True, dataset_id="d", stats=stats, audit=audit
    )


@dataclass
class Hospital:
    """A hospital with a policy, whose client app counts how often it is reached."""

    state: Path
    rules: Mapping[str, Any] = field(default_factory=dict)
    known: Introduction = field(default_factory=introduction)
    now: datetime = NOON
    reached: int = 0
    journal: list[Mapping[str, Any]] = field(default_factory=list)

    def append(self, entry: Mapping[str, Any]) -> None:
        self.journal.append(entry)

    def desk(self, _: Context) -> Desk:
        sections = {name: {**OPEN.get(name, {}), **self.rules.get(name, {})} for name in {**OPEN, **self.rules}}
        return Desk(Policy.model_validate(sections), Ledger(self.state), self.known, self)

    def ask(self, *messages: tuple[str, RecordDict]) -> list[str]:
        """Returns the errors that the messages get, empty for an answer."""
        return [reply.error.reason if reply.has_error() else "" for reply in self.answers(*messages)]

    def answers(self, *messages: tuple[str, RecordDict]) -> list[Message]:
        app, server, replies = ClientApp(mods=[enforcement.enforcing(self.desk, lambda: self.now)]), ServerApp(), []

        def reach(message: Message, context: Context) -> Message:
            self.reached += 1
            return Message(RecordDict({METRICS: MetricRecord({COUNT: 140, "loss": 0.5})}), reply_to=message)

        for register in (app.train(), app.evaluate(), app.query(), app.query(HELLO), app.query("secrets")):
            register(reach)

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            for kind, content in messages:
                replies.extend(grid.send_and_receive([Message(content, 2, kind)]))

        simulation.run_apps(server, app, {2: {}})
        return replies


def request(training: Mapping[str, Any] | None = None, **changes: Any) -> RunRequest:
    """Returns the request with other settings of training, or of the federation, or another run or epsilon."""
    own = {name: value for name, value in changes.items() if name in ("run", "epsilon")}
    federation = {name: value for name, value in changes.items() if name not in own}
    return REQUESTED.model_copy(
        update={
            "training": TRAINING.model_copy(update=dict(training or {})),
            "federation": REQUESTED.federation.model_copy(update=federation),
            **own,
        }
    )


def training(asked: RunRequest = REQUESTED, number: int = 1, **config: Any) -> tuple[str, RecordDict]:
    instructions = TrainInstructions(asked.training, 1e-3, asked.training.image_size).to_record()
    return "train", _content(asked, {**instructions, ROUND: number, **config})


def evaluation(asked: RunRequest = REQUESTED, number: int = 1, **options: Any) -> tuple[str, RecordDict]:
    instructions = EvaluateInstructions(asked.training, **options).to_record()
    return "evaluate", _content(asked, {**instructions, ROUND: number})


def description(asked: RunRequest = REQUESTED) -> tuple[str, RecordDict]:
    return "query", evaluation(asked, detail="totals")[1]


def hello(asked: RunRequest = REQUESTED) -> tuple[str, RecordDict]:
    return f"query.{HELLO}", RecordDict({REQUEST: asked.to_record()})


def _content(asked: RunRequest, config: Mapping[str, Any]) -> RecordDict:
    return RecordDict({CONFIG: ConfigRecord(dict(config)), REQUEST: asked.to_record()})


def test_a_run_within_the_policy_is_answered(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    messages = hello(), training(), evaluation(), evaluation(detail="totals"), description()
    assert hospital.ask(*messages) == [""] * 5
    assert hospital.reached == 5
    assert [entry["decision"] for entry in hospital.journal] == ["allowed"] * 5


SMALL = introduction(val={"glioma": 15, "notumor": 9})
VIOLATIONS: dict[str, tuple[Mapping[str, Any], Introduction, tuple[str, RecordDict], str]] = {
    "recipe": ({"recipe": {"allowed": ["0" * 64]}}, introduction(), hello(), "are not among those that it allows"),
    "strategy": ({}, introduction(), hello(request(strategy="krum")), "the strategy is krum, allowed are fedavg"),
    "local-epochs": ({}, introduction(), hello(request({"local_epochs": 2.0})), "2 epochs a round, allowed are 1"),
    "image-size": ({}, introduction(), hello(request({"image_size": 512})), "512 pixels, allowed are 32 to 256"),
    "rounds-per-run": ({}, introduction(), hello(request(rounds=601)), "601 rounds, allowed are 600"),
    "hours": ({"limits": {"hours": ["19:00-07:00"]}}, introduction(), training(), "it trains at 19:00-07:00"),
    "fewest-images": ({"participation": {"fewest_images": 171}}, introduction(), hello(), "fewer than 171 images"),
    "fewest-patients": ({}, introduction(patients=9), hello(), "images of fewer than 10 patients"),
    "small-counts": ({}, SMALL, evaluation(), "its val images are fewer than 10 of some class"),
    "evaluation-totals": (
        {"release": {"evaluation_totals": False}},
        introduction(),
        evaluation(detail="intervals"),
        "totals of an evaluation do not leave it",
    ),
    "feature-statistics": (
        {"release": {"feature_statistics": False}},
        introduction(),
        description(),
        "sums of features do not leave it",
    ),
    "batchnorm-statistics": (
        {},
        introduction(),
        description(request({"normalisation": "local"})),
        "BatchNorm statistics do not leave it",
    ),
    "epsilon-per-run": (
        {"epsilon": {"per_run": 4.0}},
        introduction(),
        hello(request(epsilon=4.5)),
        "the run states epsilon 4.5, allowed is 4",
    ),
    "approval": ({"participation": {"approval": True}}, introduction(), training(), "waits for approval"),
}


@pytest.mark.parametrize("rule", VIOLATIONS)
def test_a_violation_is_refused_by_name_before_an_image_is_opened(tmp_path: Path, rule: str) -> None:
    rules, known, message, said = VIOLATIONS[rule]
    hospital = Hospital(tmp_path, rules, known)
    (error,) = hospital.ask(message)
    assert error.startswith(f"its policy refuses this ({rule}): ")
    assert said in error
    assert hospital.reached == 0
    assert hospital.journal[-1]["rule"] == rule


def test_each_rule_has_a_violation_in_these_tests() -> None:
    counted = {"rounds-per-week", "evaluations-per-run", "evaluations-per-week", "epsilon-in-total"}
    assert {*VIOLATIONS, *counted} == set(enforcement.RULES)


def test_trainings_are_counted_per_run_and_week_and_survive_a_restart(tmp_path: Path) -> None:
    rules = {"limits": {"rounds_per_run": 10, "rounds_per_week": 3}}
    assert Hospital(tmp_path, rules).ask(training(number=1), training(number=2)) == ["", ""]
    again = Hospital(tmp_path, rules)
    other = request(run="run-002")
    errors = again.ask(training(number=2), training(other), evaluation())
    assert errors[0] == errors[2] == ""
    assert "(rounds-per-week): 3 trainings were begun within seven days" in errors[1]
    later = Hospital(tmp_path, rules, now=NOON + timedelta(days=7))
    assert later.ask(training(other)) == [""]


def test_a_run_trains_no_more_often_than_a_run_may_however_it_numbers_its_rounds(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"limits": {"rounds_per_run": 10}})
    errors = hospital.ask(*[training(number=1)] * 11)
    assert errors[:10] == [""] * 10
    assert "(rounds-per-run): the run has begun 10 trainings" in errors[10]


def test_evaluations_are_counted(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"limits": {"evaluations_per_run": 2}})
    errors = hospital.ask(evaluation(), description(), evaluation(), training())
    assert [bool(error) for error in errors] == [False, False, True, False]
    assert "(evaluations-per-run)" in errors[2]


def test_a_run_with_another_name_gets_no_evaluations_beyond_those_of_a_week(tmp_path: Path) -> None:
    rules = {"limits": {"evaluations_per_week": 2}}
    errors = Hospital(tmp_path, rules).ask(*(evaluation(request(run=f"run-00{n}")) for n in (1, 2, 3)))
    assert errors[:2] == ["", ""]
    assert "(evaluations-per-week): 2 evaluations were begun within seven days" in errors[2]
    assert Hospital(tmp_path, rules, now=NOON + timedelta(days=7)).ask(evaluation()) == [""]


def test_epsilon_adds_up_over_runs_in_which_the_hospital_worked(tmp_path: Path) -> None:
    rules = {"epsilon": {"per_run": 4.0, "in_total": 6.0}}
    first, second, third = (request(run=f"run-00{n}", epsilon=e) for n, e in ((1, 4.0), (2, 2.5), (3, 2.0)))
    assert Hospital(tmp_path, rules).ask(hello(second), training(first), training(first)) == ["", "", ""]
    errors = Hospital(tmp_path, rules).ask(training(second), training(third), training(first))
    assert "(epsilon-in-total): the run states epsilon 2.5, of 6 in total 4 is spent" in errors[0]
    assert errors[1:] == ["", ""]


def test_with_a_limit_a_run_without_epsilon_is_refused(tmp_path: Path) -> None:
    (error,) = Hospital(tmp_path, {"epsilon": {"in_total": 6.0}}).ask(hello())
    assert "the run states no epsilon" in error


def test_a_run_waits_for_approval_and_an_approval_is_for_that_run_alone(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"participation": {"approval": True}})
    (error,) = hospital.ask(hello())
    assert f"the run {REQUESTED.short_name} waits for approval by its administrator" in error
    assert list(Ledger(tmp_path).read().waiting()) == [REQUESTED.name]
    Ledger(tmp_path).decide(REQUESTED.short_name, "approved")
    assert hospital.ask(hello(), training(), evaluation()) == ["", "", ""]
    for other in (request(run="run-002"), request({"seed": 1}), request(rounds=11), request(epsilon=1.0)):
        assert "waits for approval" in hospital.ask(training(other))[0]
    Ledger(tmp_path).decide(REQUESTED.short_name, "denied")
    assert "was denied by its administrator" in hospital.ask(training())[0]


def test_a_server_cannot_fill_the_ledger_with_runs_that_wait(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"participation": {"approval": True}})
    errors = hospital.ask(*(hello(request(run=f"run-{n:03}")) for n in range(1, 23)))
    assert "20 runs wait for approval, and no more may" in errors[20]
    assert len(Ledger(tmp_path).read().runs) == 20


def test_a_decision_needs_a_run_that_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'abc': no run, or more than one, has this name; waiting: none"):
        Ledger(tmp_path).decide("abc", "approved")


def test_a_damaged_ledger_is_not_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text("{", encoding="utf-8")
    hospital = Hospital(tmp_path)
    assert "ledger.json is damaged" in hospital.ask(training())[0]
    assert hospital.reached == 0
    with pytest.raises(ArtifactError):
        Ledger(tmp_path).decide("abc", "approved")


UNSTATED = {
    "no statement": (("train", RecordDict({CONFIG: training()[1].config_records[CONFIG]})), "does not say which run"),
    "a damaged statement": (("train", RecordDict({REQUEST: ConfigRecord({"json": "{}"})})), "cannot be read"),
    "other settings": (("train", _content(REQUESTED, dict(training(request({"seed": 9}))[1].config_records[CONFIG]))), "other settings"),
    "larger images": (training(**{"image-size": 128}), "other settings"),
    "a round too many": (training(number=11), "its round is not one of the 10"),
    "no round": (training(**{ROUND: "x"}), "does not say which round"),
    "a proximal term": (training(**{"proximal-mu": 0.1}), "its proximal term is not"),
    "no settings": (("train", _content(REQUESTED, {ROUND: 1})), "its instructions cannot be read"),
    "another kind": (("query.secrets", hello()[1]), "of a kind that no hospital answers"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSTATED)
def test_a_message_that_does_not_fit_what_its_run_stated_is_refused(tmp_path: Path, case: str) -> None:
    message, said = UNSTATED[case]
    hospital = Hospital(tmp_path)
    (error,) = hospital.ask(message)
    assert error.startswith("its policy refuses this (request): ")
    assert said in error
    assert (hospital.reached, Ledger(tmp_path).read().runs) == (0, {})


def test_fedprox_is_answered_where_it_is_allowed(tmp_path: Path) -> None:
    asked = request(strategy="fedprox", proximal_mu=0.1)
    hospital = Hospital(tmp_path, {"recipe": {"strategies": ["fedprox"]}})
    assert hospital.ask(training(asked, **{"proximal-mu": 0.1}), evaluation(asked)) == ["", ""]


def test_the_number_of_images_in_an_update_leaves_out_classes_that_are_too_small(tmp_path: Path) -> None:
    known = introduction(train={"glioma": 9, "notumor": 131})
    (reply,) = Hospital(tmp_path, known=known).answers(training())
    assert dict(reply.content.metric_records[METRICS]) == {COUNT: 131, "loss": 0.5}
    (reply,) = Hospital(tmp_path, {"release": {"smallest_count": 1}}, known).answers(training())
    assert reply.content.metric_records[METRICS][COUNT] == 140
