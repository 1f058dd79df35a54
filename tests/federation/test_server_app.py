"""The server's side: rounds, selection, early stopping and repeated rounds."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import recipes
import torch
from fakes import NAMES, SETTINGS, hospital, images, simulate
from flwr.app import ArrayRecord, Message

from medisync.errors import FederationError
from medisync.federation import server_app, simulation
from medisync.federation.aggregation import AggregationResult
from medisync.federation.broadcast import Broadcast
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.messages import Participants
from medisync.federation.observer import TrainingObserver
from medisync.federation.plan import FederationPlan
from medisync.model import adam
from medisync.model.device import select_device
from medisync.model.resnet import build_resnet18
from medisync.schemas import HistoryEntry, HospitalScores
from medisync.training.local import RoundInstructions, missing_class_adjustment, predict_images, train_locally
from medisync.training.seeds import derive_seed


def entry(accuracy: float, loss: float) -> HistoryEntry:
    scores = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": loss, "val_accuracy": accuracy}
    return HistoryEntry(epoch=1, learning_rate=0.1, seconds=1, hospitals={"North": HospitalScores(**scores)}, **scores)


def test_patience_ends_a_federation_that_no_longer_improves(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([(0.5, 1.0), (0.7, 1.0), (0.7, 0.9), (0.7, 0.9), (0.6, 0.1), (0.9, 0.1)])

    def scripted(grid: object, strategy: object, plan: Any, *_: object) -> tuple[Any, Broadcast, HistoryEntry]:
        weights: Any = f"weights of round {plan.number}"
        result = AggregationResult(weights, {}, {}, {}, [], [], {}, {})
        return result, Broadcast(weights), entry(*next(figures))

    monkeypatch.setattr(server_app, "run_round", scripted)
    plan = FederationPlan(SETTINGS, recipes.federation(rounds=6, patience=2))
    start = Checkpoint(ArrayRecord(), ArrayRecord())
    nobody: Any = None
    end = server_app.run_rounds(nobody, lambda: Participants(NAMES), plan, start, TrainingObserver())
    assert (end.best, end.best_round, end.rounds_done) == ("weights of round 3", 3, 5)


class Forgetful(simulation.InProcessGrid):
    """Loses the first messages to North, so many of them."""

    lost = 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        for name in list(message_ids):
            question = self._questions.get(name)
            if question and question.metadata.dst_node_id == 2 and self.lost:
                self.lost -= 1
                del self._questions[name]
            yield from super().pull_messages([name])


LACKS_NORTH = r"round 1: 1 usable updates, at least 2 are needed \(North: did not answer within 0.01 s\)"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> type[Forgetful]:
    monkeypatch.setattr(simulation, "InProcessGrid", Forgetful)
    return Forgetful


def test_a_round_that_lacks_a_hospital_is_repeated(
    forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forgetful, "lost", 2)
    (only,) = simulate({"North": hospital(0), "South": hospital(10)}, 1, round_deadline=0.01).history
    assert only.hospitals.keys() == {"North", "South"}
    assert len(re.findall(f"{LACKS_NORTH}.*the round is repeated", caplog.text)) == 2


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam"])
def test_a_repeated_round_ends_with_the_bits_of_one_that_succeeded_at_once(
    strategy: str, forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed attempt leaves the server's optimiser as it was."""
    hospitals = {"North": hospital(0), "South": hospital(10)}
    histories = []
    for lost in (0, 1):
        monkeypatch.setattr(forgetful, "lost", lost)
        histories.append(simulate(hospitals, 2, round_deadline=0.01, strategy=strategy).history)
    smooth, repeated = ([each.weights_sha256 for each in history] for history in histories)
    assert smooth == repeated


def test_a_round_is_not_repeated_without_end(forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetful, "lost", 3)
    with pytest.raises(FederationError, match=LACKS_NORTH):
        simulate({"North": hospital(0), "South": hospital(10)}, 1, round_deadline=0.01)


def test_only_a_round_with_images_of_full_size_is_selected_and_patience_waits_for_it() -> None:
    large = {"North": hospital(0, side=96), "South": hospital(10, side=96)}
    settings = SETTINGS.model_copy(update={"image_size": 96, "image_size_schedule": "progressive"})
    outcome = simulate(large, 5, settings, patience=1)
    assert [entry.image_size for entry in outcome.history] == [32, 48, 48, 48, 96]
    assert outcome.best_round == 5


def test_rounds_between_validations_are_not_validated_and_not_selected() -> None:
    validated: list[int] = []

    class Noting(TrainingObserver):
        def round_validated(self, checkpoint: Checkpoint) -> None:
            validated.append(checkpoint.rounds_done)

    hospitals = {"North": hospital(0), "South": hospital(10)}
    outcome = simulate(hospitals, 5, observer=Noting(), validate_every=2, patience=5)
    assert [entry.val_accuracy is not None for entry in outcome.history] == [False, True, False, True, True]
    assert validated == [2, 4, 5]
    assert outcome.best_round in validated


def test_the_seed_decides_the_first_weights() -> None:
    hospitals = {"North": hospital(0), "South": hospital(10)}
    first, second = simulate(hospitals, 1), simulate(hospitals, 1, SETTINGS.model_copy(update={"seed": 1}))
    assert not torch.equal(first.state["conv1.weight"], second.state["conv1.weight"])


def test_one_round_is_the_average_of_what_the_hospitals_trained() -> None:
    """ROUNDS = 1 is the classic single aggregation: computed here a second time without Flower."""
    hospitals = {"North": hospital(0), "South": {**hospital(10), "train": images(8, 4, 10)}}
    outcome = simulate(hospitals, 1)
    start = build_resnet18(seed=SETTINGS.seed).state_dict()
    device = select_device("cpu")
    updates = [
        train_locally(
            start,
            data["train"],
            RoundInstructions(SETTINGS, SETTINGS.learning_rate),
            generator=torch.Generator().manual_seed(derive_seed(SETTINGS.seed, 1, name)),
            device=device,
        ).state
        for name, data in hospitals.items()
    ]
    expected = (16 * updates[0]["fc.weight"] + 8 * updates[1]["fc.weight"]) / 24
    assert torch.allclose(outcome.state["fc.weight"], expected, rtol=2**-10, atol=1e-7)  # the model has half precision


def test_each_hospital_predicts_with_its_own_statistics_and_others_with_their_mean() -> None:
    settings = SETTINGS.model_copy(update={"normalisation": "local"})
    hospitals = {"North": hospital(0), "South": hospital(10, classes=3), "West": hospital(20)}
    hospitals["West"] = {**hospitals["West"], "train": images(32, 4, 20)}
    outcome = simulate(hospitals, training=settings, normalisation="local")
    assert outcome.statistics.keys() == hospitals.keys()
    means = {name: outcome.state_at(name)["bn1.running_mean"] for name in hospitals}
    assert not torch.allclose(means["North"], means["South"], rtol=0.01)
    elsewhere = (16 * means["North"] + 16 * means["South"] + 32 * means["West"]) / 64
    torch.testing.assert_close(outcome.state_at("East")["bn1.running_mean"], elsewhere)
    for name, data in hospitals.items():
        outputs = predict_images(outcome.state_at(name), data["test"], select_device("cpu"))
        prior = missing_class_adjustment(data["train"].labels, settings.missing_class_prior)
        logits = outputs.logits + prior.numpy()
        right = (logits.argmax(axis=1) == data["test"].labels).mean()
        assert right == outcome.hospitals[name].accuracy


def test_scans_of_unknown_hospitals_have_a_calibration_of_their_own_where_priors_differ() -> None:
    hospitals = {"North": hospital(0), "South": hospital(10, classes=3)}
    adjusted = simulate(hospitals, training=SETTINGS.model_copy(update={"missing_class_prior": 1e-9}))
    assert adjusted.calibration_elsewhere is not None
    assert adjusted.test_elsewhere is not None
    assert adjusted.test_elsewhere.n == adjusted.test.n
    plain = simulate(hospitals, training=SETTINGS.model_copy(update={"missing_class_prior": 1.0}))
    assert (plain.calibration_elsewhere, plain.test_elsewhere) == (None, None)


def test_shared_moments_reach_training_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, scored = [], []
    train, predict = train_locally, predict_images
    monkeypatch.setattr(
        "medisync.federation.client_app.train_locally",
        lambda state, *rest, **more: trained.append(state) or train(state, *rest, **more),
    )
    monkeypatch.setattr(
        "medisync.federation.client_app.predict_images",
        lambda state, *rest, **more: scored.append(state) or predict(state, *rest, **more),
    )
    settings = SETTINGS.model_copy(update={"adam_moments": "shared", "normalisation": "group"})
    outcome = simulate({"North": hospital(0), "South": hospital(10)}, training=settings, normalisation="group")
    assert [int(state[adam.STEPS]) for state in trained] == [0, 0, 4, 4]  # 16 images in batches of 4
    for state in (*scored, outcome.state):
        assert not any(map(adam.is_moment, state))
