"""The federation on real Flower, with hospitals that return what the test tells them to."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import recipes
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.config import Normalisation
from medisync.errors import ConfigError, DataError, FederationError
from medisync.federation import client_app, history, server_app, simulation, strategy
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    COUNT,
    METRICS,
    ROUND,
    EvaluateOrder,
    Participants,
    TrainOrder,
    arrays_from_state,
    digest,
)
from medisync.federation.update_validation import MAX_IMAGES, Screened
from medisync.model import adam
from medisync.model.device import select_device
from medisync.model.resnet import build_resnet18
from medisync.schemas import HistoryEntry, HospitalScores
from medisync.training.dataset import HospitalData, ImageSet
from medisync.training.local import predict_images

NAMES = {2: "North", 3: "South", 4: "West"}
FIGURES = {"loss": 0.5, "accuracy": 0.5, "seconds": 1.0}
SETTINGS = recipes.training(image_size=32, batch_size=4, learning_rate=1e-3, device="cpu")

Reply = Callable[[Message], RecordDict]


def update(
    value: float, count: object = 1, *, state: Mapping[str, Any] | None = None, round_number: int | None = None
) -> Reply:
    """A hospital that answers every order with these weights and this count."""

    def answer(message: Message) -> RecordDict:
        asked = message.content.config_records[CONFIG][ROUND]
        arrays = {"w": torch.tensor([value])} if state is None else state
        return RecordDict(
            {
                ARRAYS: ArrayRecord(dict(arrays)),
                METRICS: MetricRecord({COUNT: count, **FIGURES}),  # type: ignore[dict-item]
                CONFIG: ConfigRecord({ROUND: asked if round_number is None else round_number}),
            }
        )

    return answer


def failing(message: Message) -> RecordDict:
    raise DataError("its disk is full")


def one_round(
    replies: Mapping[int, Reply],
    start: Mapping[str, Any] | None = None,
    min_hospitals: int = 2,
    repeat: int = 1,
    **options: Any,
) -> tuple[dict[str, torch.Tensor], Screened]:
    """The aggregate of one exchange, and the strategy that made it. `repeat` delivers every update so often."""
    client, server = ClientApp(), ServerApp()
    names = {node: NAMES[node] for node in replies}
    screened = strategy.build_strategy(recipes.federation(min_hospitals=min_hospitals, **options), names)
    state = ArrayRecord({"w": torch.tensor([0.0])} if start is None else dict(start))
    averages = []

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return Message(replies[context.node_id](message), reply_to=message)

    @server.main()
    def main(deliver: Grid, context: Context) -> None:
        messages = list(screened.configure_train(1, state, TrainOrder(SETTINGS, 0.1).to_record(), deliver))
        answers = [answer for _ in range(repeat) for answer in deliver.send_and_receive(messages)]
        averages.append(screened.aggregate_train(1, answers)[0].to_torch_state_dict())

    simulation.run_apps(server, client, {node: {} for node in replies})
    return averages[0], screened


def refusals(screened: Screened) -> dict[str, str]:
    return {refusal.hospital: refusal.reason for refusal in screened.refused}


def test_the_average_is_weighted_by_count() -> None:
    average, screened = one_round({2: update(1.0, 2), 3: update(4.0, 6)})
    assert average["w"].item() == 3.25 == (1 * 2 + 4 * 6) / (2 + 6)
    assert screened.refused == []
    assert screened.norms == {"North": 1.0, "South": 4.0}
    assert screened.drifts == {"North": 2.25, "South": 0.75}


def test_batchnorm_statistics_are_averaged_by_count_and_a_counter_stays_whole() -> None:
    # one image with mean 0 and variance 1, three with mean 8 and variance 3: 24 / 4 = 6 and (1 + 3 * 3) / 4 = 2.5
    def state(mean: float, var: float, batches: int) -> dict[str, Any]:
        return {
            "bn.running_mean": torch.tensor([mean]),
            "bn.running_var": torch.tensor([var]),
            "bn.num_batches_tracked": torch.tensor(batches),
        }

    replies = {2: update(0, 1, state=state(0.0, 1.0, 7)), 3: update(0, 3, state=state(8.0, 3.0, 5))}
    average, _ = one_round(replies, start=state(1.0, 1.0, 0))
    assert average["bn.running_mean"].item() == 6.0
    assert average["bn.running_var"].item() == 2.5
    assert average["bn.num_batches_tracked"].dtype == torch.int64
    assert average["bn.num_batches_tracked"].item() == 7


THREE = {2: update(1.0, 2), 3: update(4.0, 6), 4: update(100.0, 1)}
ROBUST = {"fedmedian": 4.0, "trimmed-mean": 4.0}


@pytest.mark.parametrize(("name", "expected"), ROBUST.items())
def test_one_extreme_update_does_not_move_a_robust_aggregate(name: str, expected: float) -> None:
    aggregate, _ = one_round(THREE, strategy=name)
    assert aggregate["w"].item() == expected
    assert aggregate["w"].dtype == torch.float32


def test_krum_leaves_out_as_many_as_are_suspected() -> None:
    aggregate, _ = one_round(THREE, strategy="krum")
    assert aggregate["w"].item() == 3.25  # of 1 with two images and 4 with six


def test_server_momentum_and_learning_rate_by_hand() -> None:
    # the mean update is 3.25; the first step of SGD at 0.5 goes half of the way
    aggregate, _ = one_round({2: update(1.0, 2), 3: update(4.0, 6)}, strategy="fedavgm", server_learning_rate=0.5)
    assert aggregate["w"].item() == 1.625


@pytest.mark.parametrize(("name", "correction"), [("fedadam", (1 - 0.99**2) ** 0.5 / (1 - 0.9**2)), ("fedyogi", 1)])
def test_an_adaptive_server_steps_weights_and_averages_statistics(name: str, correction: float) -> None:
    # round 1: m = 0.1 * 3.25, v = 0.01 * 3.25^2, step = 0.1 * m / (sqrt(v) + 0.001), times Adam's bias correction
    def state(value: float) -> dict[str, Any]:
        counter = torch.tensor(int(value))
        return {"w": torch.tensor([value]), "running_mean": torch.tensor([value]), "num_batches_tracked": counter}

    replies = {2: update(0, 2, state=state(1.0)), 3: update(0, 6, state=state(4.0))}
    aggregate, _ = one_round(replies, start=state(0.0), strategy=name, server_learning_rate=0.1)
    step = 0.1 * correction * 0.325 / (0.325 + 0.001)
    assert aggregate["w"].item() == pytest.approx(step, rel=1e-3)
    assert aggregate["running_mean"].item() == 3.25
    assert aggregate["num_batches_tracked"].item() == 4


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_moments_are_averaged_by_count_and_take_no_step_of_the_server(name: str) -> None:
    def state(value: float, steps: int) -> dict[str, Any]:
        moments = {adam.FIRST + "w": torch.tensor([value]), adam.SECOND + "w": torch.tensor([value])}
        return {"w": torch.tensor([value]), **moments, adam.STEPS: torch.tensor(steps)}

    replies = {2: update(0, 2, state=state(1.0, 7)), 3: update(0, 6, state=state(4.0, 5))}
    aggregate, screened = one_round(replies, start=state(0.0, 0), strategy=name)
    assert screened.refused == []
    assert aggregate[adam.FIRST + "w"].item() == aggregate[adam.SECOND + "w"].item() == 3.25
    assert aggregate[adam.STEPS].item() == 7
    assert (aggregate["w"].item() == 3.25) == (name == "fedavg")


def test_moments_that_no_training_leaves_are_refused() -> None:
    def state(first: float) -> dict[str, Any]:
        moments = {adam.FIRST + "w": torch.tensor([first]), adam.SECOND + "w": torch.tensor([1.0])}
        return {"w": torch.tensor([1.0]), **moments, adam.STEPS: torch.tensor(1)}

    replies = {node: update(0, state=state(first)) for node, first in ((2, 1.0), (3, 3.0), (4, 1e6))}
    aggregate, screened = one_round(replies, start=state(0.0))
    assert aggregate[adam.FIRST + "w"].item() == 2.0
    assert "adam.first.w holds values that no gradients" in refusals(screened)["West"]


def test_fedprox_tells_the_hospitals_how_hard_to_pull() -> None:
    heard = []

    def listening(message: Message) -> RecordDict:
        heard.append(TrainOrder.from_record(message.content.config_records[CONFIG]).proximal_mu)
        return update(1.0)(message)

    one_round({2: listening, 3: listening}, strategy="fedprox", proximal_mu=0.25)
    assert heard == [0.25, 0.25]


def test_participation_asks_some_hospitals_and_never_fewer_than_needed() -> None:
    asked: set[int] = set()

    def noting(message: Message) -> RecordDict:
        asked.add(message.metadata.dst_node_id)
        return update(1.0)(message)

    one_round({2: noting, 3: noting, 4: noting}, participation=0.1)
    assert len(asked) == 2


def test_a_trimmed_mean_of_too_few_hospitals_is_refused() -> None:
    with pytest.raises(ConfigError, match="only among 5 or more hospitals, there are 3"):
        strategy.build_strategy(recipes.federation(strategy="trimmed-mean", malicious_hospitals=2), NAMES)


WRONG = {
    "missing key": (update(0, state={"v": torch.tensor([1.0])}), "w is missing"),
    "extra key": (update(0, state={"w": torch.tensor([1.0]), "v": torch.tensor([1.0])}), "v is unknown"),
    "shape": (update(0, state={"w": torch.tensor([1.0, 2.0])}), "w has shape [2], expected [1]"),
    "dtype": (update(0, state={"w": torch.tensor([1.0], dtype=torch.float64)}), "float64"),
    "not a number": (update(float("nan")), "w holds values that are not finite"),
    "infinite": (update(float("-inf")), "w holds values that are not finite"),
    "count 0": (update(1.0, 0), "num-examples is 0"),
    "negative count": (update(1.0, -3), "num-examples is -3"),
    "fraction": (update(1.0, 2.5), "num-examples is 2.5"),
    "huge count": (update(1.0, MAX_IMAGES + 1), "num-examples is"),
    "stale round": (update(1.0, round_number=7), "answers round 7, this is 1"),
    "error": (failing, "its disk is full"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_update_is_refused_by_name_and_the_round_goes_on(wrong: Reply, said: str) -> None:
    average, screened = one_round({2: update(1.0, 2), 3: update(4.0, 6), 4: wrong})
    assert average["w"].item() == 3.25
    assert refusals(screened).keys() == {"West"}
    assert said in refusals(screened)["West"]


def test_a_second_update_from_one_hospital_is_refused() -> None:
    average, screened = one_round({2: update(1.0, 2), 3: update(4.0, 6)}, repeat=2)
    assert average["w"].item() == 3.25
    assert refusals(screened) == {
        "North": "a second update in the same round",
        "South": "a second update in the same round",
    }


def test_arrays_that_cannot_be_read_are_refused() -> None:
    def garbled(message: Message) -> RecordDict:
        content = update(1.0)(message)
        content[ARRAYS] = ArrayRecord({"w": Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=b"no")})
        return content

    _, screened = one_round({2: update(1.0), 3: update(4.0), 4: garbled})
    assert "cannot be read" in refusals(screened)["West"]


def test_below_two_hospitals_the_round_fails_and_says_who_was_refused() -> None:
    with pytest.raises(
        FederationError, match=r"round 1: 1 usable updates, at least 2 are needed \(South: w holds .*NaN"
    ) as error:
        one_round({2: update(1.0), 3: update(float("nan"))})
    assert "the global model stays as it was" in str(error.value)


def test_counts_of_zero_everywhere_fail_the_round_and_leave_the_model() -> None:
    with pytest.raises(FederationError, match=r"0 usable updates.*North: num-examples is 0.*model stays as it was"):
        one_round({2: update(1.0, 0), 3: update(4.0, 0)})


def images(count: int, classes: int, seed: int, side: int = 32) -> ImageSet:
    """Squares that are brighter the higher their class: something a network can learn."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = (60 * labels[:, None, None] + generator.integers(0, 40, (count, side, side))).astype(np.uint8)
    return ImageSet(pixels, labels.astype(np.int64), np.arange(count, dtype=np.int64))


def hospital(seed: int, classes: int = 4, side: int = 32) -> HospitalData:
    return {name: images(count, classes, seed + k, side) for k, (name, count) in enumerate(SIZES.items())}  # type: ignore[misc]


SIZES = {"train": 16, "val": 8, "test": 8}


def simulate(hospitals: Mapping[str, HospitalData], rounds: int = 2, **settings: Any) -> server_app.Outcome:
    from medisync.config import Configuration

    sections = {"training": SETTINGS, "federation": recipes.federation(rounds=rounds, **settings)}
    return simulation.simulate(hospitals, Configuration.model_construct(**sections))


def test_a_federation_is_the_same_twice_and_tells_its_history() -> None:
    hospitals = {"North": hospital(0), "South": hospital(10, classes=3)}
    first, second = simulate(hospitals), simulate(hospitals)
    assert all(torch.equal(first.state[key], second.state[key]) for key in first.state)
    assert [entry.epoch for entry in first.history] == [1, 2]
    assert first.history[0].hospitals.keys() == {"North", "South"}
    assert first.history[0].hospitals["North"].train_images == 16
    assert (first.test.n, first.hospitals["South"].n) == (16, 8)
    assert first.state["bn1.num_batches_tracked"].dtype == torch.int64


def test_each_hospital_predicts_with_its_own_statistics_and_others_with_their_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "SETTINGS", SETTINGS.model_copy(update={"normalisation": "local"}))
    hospitals = {"North": hospital(0), "South": hospital(10, classes=3), "West": hospital(20)}
    hospitals["West"] = {**hospitals["West"], "train": images(32, 4, 20)}
    outcome = simulate(hospitals, normalisation="local")
    assert outcome.statistics.keys() == hospitals.keys()
    means = {name: outcome.state_at(name)["bn1.running_mean"] for name in hospitals}
    assert not torch.allclose(means["North"], means["South"], rtol=0.01)
    elsewhere = (16 * means["North"] + 16 * means["South"] + 32 * means["West"]) / 64
    torch.testing.assert_close(outcome.state_at("East")["bn1.running_mean"], elsewhere)
    for name, data in hospitals.items():
        logits = predict_images(outcome.state_at(name), data["test"], select_device("cpu")).logits
        right = (logits.argmax(axis=1) == data["test"].labels).mean()
        assert right == outcome.hospitals[name].accuracy


def test_only_a_round_with_whole_images_is_kept_and_patience_waits_for_it() -> None:
    from medisync.config import Configuration

    large = {"North": hospital(0, side=96), "South": hospital(10, side=96)}
    settings = SETTINGS.model_copy(update={"image_size": 96, "image_size_schedule": "progressive"})
    federation = recipes.federation(rounds=5, patience=1)
    outcome = simulation.simulate(large, Configuration.model_construct(training=settings, federation=federation))
    assert [entry.image_size for entry in outcome.history] == [32, 48, 48, 48, 96]
    assert outcome.best_round == 5


def test_shared_moments_reach_training_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from medisync.config import Configuration
    from medisync.training.local import predict_images, train_locally

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
    federation = recipes.federation(rounds=2, normalisation="group")
    outcome = simulation.simulate(
        {"North": hospital(0), "South": hospital(10)},
        Configuration.model_construct(training=settings, federation=federation),
    )
    assert [int(state[adam.STEPS]) for state in trained] == [0, 0, 4, 4]  # 16 images in batches of 4
    for state in (*scored, outcome.state):
        assert not any(map(adam.is_moment, state))


def test_rounds_between_validations_are_not_validated_and_not_kept() -> None:
    hospitals, kept = {"North": hospital(0), "South": hospital(10)}, []
    from medisync.config import Configuration

    federation = recipes.federation(rounds=5, validate_every=2, patience=5)
    configuration = Configuration.model_construct(training=SETTINGS, federation=federation)
    outcome = simulation.simulate(hospitals, configuration, on_round=lambda state: kept.append(state.rounds_done))
    assert [entry.val_accuracy is not None for entry in outcome.history] == [False, True, False, True, True]
    assert kept == [2, 4, 5]
    assert outcome.best_round in kept


@pytest.mark.parametrize(("moments", "copies"), [("fresh", 1), ("shared", 3)])
def test_traffic_counts_everything_that_travels(moments: str, copies: int) -> None:
    from medisync.config import Configuration

    settings = SETTINGS.model_copy(update={"adam_moments": moments, "normalisation": "group"})
    federation = recipes.federation(rounds=2, validate_every=2, normalisation="group")
    outcome = simulation.simulate(
        {"North": hospital(0), "South": hospital(10)},
        Configuration.model_construct(training=settings, federation=federation),
    )
    weights = sum(4 * tensor.numel() for tensor in outcome.state.values())
    first, validated = (entry.hospitals["North"] for entry in outcome.history)
    counter = 8 * (moments == "shared")  # of Adam's steps
    assert (first.bytes_down, first.bytes_up) == (copies * weights + counter, copies * weights + counter)
    assert validated.bytes_down == first.bytes_down + weights
    assert 0 < validated.bytes_up - first.bytes_up < 1e5  # what an evaluation adds up


def test_the_seed_decides_the_first_weights() -> None:
    hospitals = {"North": hospital(0), "South": hospital(10)}
    other = SETTINGS.model_copy(update={"seed": 1})
    from medisync.config import Configuration

    configuration = Configuration.model_construct(training=other, federation=recipes.federation(rounds=1))
    first, second = simulate(hospitals, 1), simulation.simulate(hospitals, configuration)
    assert not torch.equal(first.state["conv1.weight"], second.state["conv1.weight"])


def test_one_round_is_the_average_of_what_the_hospitals_trained() -> None:
    """ROUNDS = 1 is the classic single aggregation: computed here a second time without Flower."""
    from medisync.model.device import select_device
    from medisync.model.resnet import build_resnet18
    from medisync.training.local import RoundInstructions, train_locally
    from medisync.training.seeds import derive_seed

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
    assert torch.allclose(
        outcome.state["fc.weight"], expected, rtol=2**-10, atol=1e-7
    )  # the model is of half precision


def test_a_fourth_hospital_takes_part() -> None:
    four = {name: hospital(k) for k, name in enumerate(("East", "North", "South", "West"))}
    outcome = simulate(four, 1)
    assert outcome.hospitals.keys() == four.keys()
    assert outcome.test.n == 4 * 8


def test_a_hospital_without_validation_or_test_images_takes_part() -> None:
    little = {**hospital(5), "val": images(0, 4, 0), "test": images(0, 4, 0)}
    outcome = simulate({"North": hospital(0), "Little": little}, 1)
    assert outcome.history[0].hospitals["Little"].val_accuracy is None
    assert outcome.hospitals["Little"].accuracy is None
    assert outcome.test.n == 8


def test_a_hospital_that_fails_is_named_and_the_others_go_on() -> None:
    broken = {"train": images(0, 4, 0), "val": images(0, 4, 0), "test": images(0, 4, 0)}
    outcome = simulate({"North": hospital(0), "South": hospital(1), "Broken": broken}, 1)
    (refusal,) = outcome.history[0].refused
    assert refusal.hospital == "Broken"


def answer_of_north(message_type: str, order: ConfigRecord, start: ArrayRecord) -> RecordDict:
    """What the client app of one hospital answers."""
    seen: list[RecordDict] = []
    app = client_app.build(lambda context, size: ("North", hospital(0)))
    server = ServerApp()

    @server.main()
    def main(deliver: Grid, context: Context) -> None:
        content = RecordDict({ARRAYS: start, CONFIG: ConfigRecord({**order, ROUND: 1})})
        seen.extend(reply.content for reply in deliver.send_and_receive([Message(content, 2, message_type)]))

    simulation.run_apps(server, app, {2: {}})
    (content,) = seen
    return content


@pytest.mark.parametrize("normalisation", ["group", "local"])
@pytest.mark.parametrize("message_type", ["train", "evaluate", "query"])
def test_a_client_leaves_the_arrays_that_it_was_sent_as_they_are(
    message_type: str, normalisation: Normalisation
) -> None:
    """In one process they are the same for every hospital, and the server's own."""
    config = SETTINGS.model_copy(update={"normalisation": normalisation})
    weights = build_resnet18(normalisation).state_dict()
    start = arrays_from_state({**weights, **adam.initial_moments(weights)} if message_type == "train" else weights)
    before = digest(start)
    order = TrainOrder(config, 1e-3) if message_type == "train" else EvaluateOrder(config)
    assert answer_of_north(message_type, order.to_record(), start)
    assert digest(start) == before


def test_the_clients_state_and_data_stay_on_their_side() -> None:
    """What crosses to the server is weights, counts and totals: nothing as large as an image set."""
    start = arrays_from_state(build_resnet18().state_dict())
    content = answer_of_north("train", TrainOrder(SETTINGS, 1e-3).to_record(), start)
    assert content.keys() == {ARRAYS, METRICS, CONFIG}
    assert content.metric_records[METRICS].keys() == {COUNT, *FIGURES}
    assert content.config_records[CONFIG].keys() == {ROUND}


def entry(accuracy: float, loss: float) -> HistoryEntry:
    scores = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": loss, "val_accuracy": accuracy}
    return HistoryEntry(epoch=1, learning_rate=0.1, seconds=1, hospitals={"North": HospitalScores(**scores)}, **scores)


def test_patience_ends_a_federation_that_no_longer_improves(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([(0.5, 1.0), (0.7, 1.0), (0.7, 0.9), (0.7, 0.9), (0.6, 0.1), (0.9, 0.1)])

    def scripted(*arguments: object, **_: object) -> tuple[str, HistoryEntry]:
        accuracy, loss = next(figures)
        return f"weights of round {arguments[4]}", entry(accuracy, loss)

    monkeypatch.setattr(server_app, "run_round", scripted)
    federation = recipes.federation(rounds=6, patience=2)
    start = Checkpoint("start", "start")  # type: ignore[arg-type]
    nobody: Any = strategy.build_strategy(federation, NAMES)
    end = server_app.run_rounds(
        None, lambda: Participants(NAMES), nobody, start, SETTINGS, federation, lambda state: None
    )  # type: ignore[arg-type]
    assert (end.best, end.best_round, end.rounds_done) == ("weights of round 3", 3, 5)


class Forgetful(simulation.InProcessGrid):
    """The first questions get lost on their way to North, so many of them."""

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


def test_a_round_that_lacks_a_hospital_is_asked_for_again(
    forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forgetful, "lost", 2)
    (only,) = simulate({"North": hospital(0), "South": hospital(10)}, 1, round_deadline=0.01).history
    assert only.hospitals.keys() == {"North", "South"}
    assert len(re.findall(f"{LACKS_NORTH}.*asked for again", caplog.text)) == 2


def test_a_round_is_not_asked_for_without_end(forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetful, "lost", 3)
    with pytest.raises(FederationError, match=LACKS_NORTH):
        simulate({"North": hospital(0), "South": hospital(10)}, 1, round_deadline=0.01)


def test_randomness_of_the_process_is_left_alone() -> None:
    import random

    random.seed(5)
    torch.manual_seed(5)
    expected = (random.Random(5).random(), torch.Generator().manual_seed(5).get_state())
    simulate({"North": hospital(0), "South": hospital(1)}, 1)
    assert random.random() == expected[0]
    assert torch.equal(torch.get_rng_state(), expected[1])


def test_rounds_are_compared_by_the_hospitals_that_validated_both() -> None:
    # round 1: 10 of 20 at North, 2 of 20 at South, together 0.3; round 2 without South: 9 of 20 at North is worse than 10,
    # though 0.45 is more than 0.3; round 3, without South too: 11 of 20 is better
    def scored(number: int, together: float, **right: int) -> HistoryEntry:
        places = {
            name: HospitalScores(train_loss=1, train_accuracy=1, val_loss=1, val_accuracy=count / 20, val_images=20)
            for name, count in right.items()
        }
        figures = {"train_loss": 1, "train_accuracy": 1, "val_loss": 1, "val_accuracy": together, "seconds": 1}
        return HistoryEntry(epoch=number, learning_rate=0.1, hospitals=places, **figures)

    first = scored(1, 0.3, North=10, South=2)
    assert not history.is_better(scored(2, 0.45, North=9), first)
    assert history.is_better(scored(3, 0.55, North=11), first)
