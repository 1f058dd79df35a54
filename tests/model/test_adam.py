"""Adam's moments travel: training that is resumed elsewhere continues as if it had not been interrupted."""

import pytest
import torch
from torch import nn

from medisync.model import adam
from medisync.model.resnet import build_resnet18


def network() -> nn.Linear:
    """One weight, 1, and no bias."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    return layer


def step(layer: nn.Linear, optimiser: torch.optim.Adam, gradient: float) -> None:
    layer.weight.grad = torch.full((1, 1), gradient)
    optimiser.step()


def test_the_moments_of_two_steps_by_hand() -> None:
    layer = network()
    optimiser = adam.build_adam(layer, 0.1, adam.initial_moments(layer.state_dict()))
    step(layer, optimiser, 2.0)
    assert layer.weight.item() == pytest.approx(0.9)  # the first step of Adam is one learning rate
    step(layer, optimiser, -1.0)
    moments = adam.read_moments(optimiser, layer)
    assert moments[adam.FIRST + "weight"].item() == pytest.approx(0.9 * 0.1 * 2 + 0.1 * -1)
    assert moments[adam.SECOND + "weight"].item() == pytest.approx(0.999 * 0.001 * 4 + 0.001 * 1)
    assert (moments[adam.STEPS].item(), moments[adam.STEPS].dtype) == (2, torch.int64)


def test_resumed_training_equals_uninterrupted_training() -> None:
    whole, first = network(), network()
    one = adam.build_adam(whole, 0.1, adam.initial_moments(whole.state_dict()))
    two = adam.build_adam(first, 0.1, adam.initial_moments(first.state_dict()))
    for gradient in (2.0, -1.0):
        step(whole, one, gradient)
        step(first, two, gradient)
    second = network()
    second.load_state_dict(first.state_dict())
    three = adam.build_adam(second, 0.1, adam.read_moments(two, first))
    step(whole, one, 0.5)
    step(second, three, 0.5)
    assert torch.equal(whole.weight, second.weight)


def test_weight_decay_shrinks_matrices_by_its_fraction_of_the_learning_rate_and_no_biases() -> None:
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    optimiser = adam.build_adam(layer, 0.1, {}, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)  # nothing to learn, so that only decay happens
    optimiser.step()
    assert layer.weight.item() == pytest.approx(1 - 0.1 * 0.5)
    assert layer.bias.item() == 1


def test_weights_and_moments_are_split() -> None:
    weights = dict(build_resnet18("averaged").state_dict())
    found, moments = adam.split_moments({**weights, **adam.initial_moments(weights)})
    assert found.keys() == weights.keys()
    parameters = sum(1 for _ in build_resnet18("averaged").named_parameters())
    assert len(moments) == 2 * parameters + 1  # running statistics have no gradient


def moments_of(first: float, second: float, steps: int = 1) -> dict[str, torch.Tensor]:
    return {
        adam.FIRST + "w": torch.tensor([first]),
        adam.SECOND + "w": torch.tensor([second]),
        adam.STEPS: torch.tensor(steps),
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (moments_of(0.1, 0.001), ""),  # one gradient of 1
        (moments_of(0.0, 0.0, 0), ""),
        (moments_of(7.2, 1.0), ""),
        (moments_of(-7.5, 1.0), "adam.first.w holds values that no gradients"),
        (moments_of(0.1, 0.0), "adam.first.w holds values that no gradients"),
        (moments_of(0.0, -1e-9), "adam.second.w holds negative values"),
        (moments_of(0.0, 0.0, -1), "adam.steps is negative"),
    ],
)
def test_impossible_moments_are_refused(found: dict[str, torch.Tensor], said: str) -> None:
    assert adam.find_moment_problem(found).startswith(said)
    assert bool(adam.find_moment_problem(found)) == bool(said)


def test_the_worst_case_of_gradients_reaches_the_bound() -> None:
    # the worst case of the inequality: gradients in proportion to (0.9 / 0.999)^age
    first = second = 0.0
    for age in range(200, -1, -1):
        gradient = (adam.BETAS[0] / adam.BETAS[1]) ** age
        first = adam.BETAS[0] * first + (1 - adam.BETAS[0]) * gradient
        second = adam.BETAS[1] * second + (1 - adam.BETAS[1]) * gradient**2
    assert first / second**0.5 == pytest.approx(adam.BOUND, rel=1e-3)
