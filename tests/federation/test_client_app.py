"""The hospital's side: its answers, and the arrays that it must not change."""

import pytest
import torch
from fakes import FIGURES, SETTINGS, hospital
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from medisync.config import Normalisation
from medisync.evaluation.ood import FeatureMoments
from medisync.evaluation.totals import Totals
from medisync.federation import client_app, simulation
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    COUNT,
    METRICS,
    MOMENTS,
    ROUND,
    TOTALS,
    EvaluateInstructions,
    TrainInstructions,
    arrays_from_state,
    digest,
    from_arrays,
)
from medisync.federation.observer import TrainingObserver
from medisync.model import adam
from medisync.model.resnet import build_resnet18
from medisync.training.dataset import HospitalData


class Noting(TrainingObserver):
    """Notes what it is told about images."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int, int]] = []

    def images_processed(self, hospital: str, activity: str, round_number: int, count: int) -> None:
        self.told.append((hospital, activity, round_number, count))


def answer_of_north(
    message_type: str,
    instructions: ConfigRecord,
    start: ArrayRecord,
    observer: TrainingObserver | None = None,
    data: HospitalData | None = None,
    fewest_of_a_class: int = 0,
) -> RecordDict:
    """Returns the answer of one hospital's client app."""
    seen: list[RecordDict] = []
    app = client_app.build(
        lambda context, size: ("North", data or hospital(0)),
        observer=observer,
        fewest_of_a_class=lambda _: fewest_of_a_class,
    )
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        content = RecordDict({ARRAYS: start, CONFIG: ConfigRecord({**instructions, ROUND: 1})})
        seen.extend(reply.content for reply in grid.send_and_receive([Message(content, 2, message_type)]))

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
    instructions = TrainInstructions(config, 1e-3) if message_type == "train" else EvaluateInstructions(config)
    assert answer_of_north(message_type, instructions.to_record(), start)
    assert digest(start) == before


def test_a_clients_state_and_data_stay_on_its_side() -> None:
    """Weights, counts and totals cross to the server: nothing as large as an image set."""
    start = arrays_from_state(build_resnet18().state_dict())
    content = answer_of_north("train", TrainInstructions(SETTINGS, 1e-3).to_record(), start)
    assert content.keys() == {ARRAYS, METRICS, CONFIG}
    assert content.metric_records[METRICS].keys() == {COUNT, *FIGURES}
    assert content.config_records[CONFIG].keys() == {ROUND}


@pytest.mark.parametrize(("own_prior", "called_healthy"), [(True, 0), (False, 8)])
def test_under_its_own_prior_a_hospital_is_not_told_of_a_class_that_it_lacks(
    own_prior: bool, called_healthy: int
) -> None:
    """The weights call everything healthy, with odds of e^9; the prior of 1e-9 at a hospital without healthy scans wins."""
    state = build_resnet18().state_dict()
    state["fc.weight"].zero_()
    state["fc.bias"].copy_(torch.tensor([0.0, 0, 0, 9]))
    settings = SETTINGS.model_copy(update={"missing_class_prior": 1e-9})
    instructions = EvaluateInstructions(settings, detail="totals", own_prior=own_prior)
    data = hospital(0, classes=3)
    content = answer_of_north("evaluate", instructions.to_record(), arrays_from_state(state), data=data)
    totals = from_arrays(Totals, content.array_records[TOTALS])
    assert len(data["val"]) == totals.confusion.sum() == 8
    assert totals.confusion[:, 3].sum() == called_healthy


@pytest.mark.parametrize(
    ("message_type", "told"),
    [
        ("train", [("North", "training", 1, 4)] * 4),  # 16 images in batches of 4
        ("evaluate", [("North", "validation", 1, 8)]),
        ("query", [("North", "features", 1, 16)]),
    ],
)
def test_an_observer_is_told_how_many_images_are_processed(
    message_type: str, told: list[tuple[str, str, int, int]]
) -> None:
    observer = Noting()
    train, evaluate = TrainInstructions(SETTINGS, 1e-3).to_record(), EvaluateInstructions(SETTINGS).to_record()
    start = arrays_from_state(build_resnet18().state_dict())
    answer_of_north(message_type, train if message_type == "train" else evaluate, start, observer)
    assert observer.told == told


@pytest.mark.parametrize(("fewest", "described"), [(0, [4, 4, 4, 4]), (4, [4, 4, 4, 4]), (5, [0, 0, 0, 0])])
def test_features_of_a_class_that_is_too_small_at_this_hospital_are_not_summed(
    fewest: int, described: list[int]
) -> None:
    start = arrays_from_state(build_resnet18().state_dict())
    instructions = EvaluateInstructions(SETTINGS).to_record()
    content = answer_of_north("query", instructions, start, fewest_of_a_class=fewest)
    moments = from_arrays(FeatureMoments, content.array_records[MOMENTS])
    assert moments.counts.tolist() == described
    assert bool(moments.sums.any()) is bool(moments.products.any()) is (sum(described) > 0)
