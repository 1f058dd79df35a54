"""One hospital, one round: training, outputs and running statistics."""

import math

import numpy as np
import pytest
import recipes
import torch
from torch import nn
from torch.nn import functional

from medisync.config import Normalisation, TrainingConfig
from medisync.errors import DataError
from medisync.imaging.preprocessing import normalise
from medisync.model import adam
from medisync.model.device import Device
from medisync.model.resnet import build_resnet18
from medisync.model.weights import State, is_running_statistic, l2_distance
from medisync.training.dataset import ImageSet
from medisync.training.local import (
    RoundInstructions,
    Update,
    _batches,
    _Objective,
    localise,
    missing_class_adjustment,
    predict_images,
    train_locally,
)

CPU = Device("cpu", bfloat16=False)
CONFIG = recipes.training(image_size=32, batch_size=8, learning_rate=1e-3, device="cpu")


def squares(count: int, labels: tuple[int, ...], seed: int = 0) -> ImageSet:
    """Images that a network can tell apart at once: a bright square in the quadrant of the label."""
    generator = np.random.default_rng(seed)
    chosen = np.array([labels[index % len(labels)] for index in range(count)])
    pixels = generator.integers(0, 40, (count, 32, 32)).astype(np.uint8)
    for image, label in zip(pixels, chosen, strict=True):
        row, column = 16 * (label // 2), 16 * (label % 2)
        image[row + 4 : row + 12, column + 4 : column + 12] = 220
    return ImageSet(pixels, chosen, np.arange(count))


def run(
    data: ImageSet,
    config: TrainingConfig = CONFIG,
    seed: int = 0,
    proximal_mu: float = 0.0,
    normalisation: Normalisation = "averaged",
    image_size: int = 0,
) -> Update:
    return train_locally(
        build_resnet18(normalisation, seed=0).state_dict(),
        data,
        RoundInstructions(config, config.learning_rate, image_size, proximal_mu),
        generator=torch.Generator().manual_seed(seed),
        device=CPU,
    )


def distance(update: Update, start: State) -> float:
    return l2_distance(update.state, start, [name for name, _ in build_resnet18().named_parameters()])


def test_training_lowers_the_loss_and_leaves_the_given_weights_unchanged() -> None:
    start = build_resnet18(seed=0).state_dict()
    before = {key: tensor.clone() for key, tensor in start.items()}
    plain = CONFIG.model_copy(update={"augment": False, "local_epochs": 4})
    first, later = run(squares(32, (0, 1, 2, 3)), CONFIG), run(squares(32, (0, 1, 2, 3)), plain)
    assert later.loss < first.loss
    assert first.images == 32
    assert distance(first, start) > 0
    assert all(torch.equal(start[key], before[key]) for key in start)


@pytest.mark.parametrize("normalisation", ["group", "averaged"])
def test_two_trainings_with_one_seed_are_bit_identical(normalisation: Normalisation) -> None:
    one, two, other = (run(squares(24, (0, 1)), seed=seed, normalisation=normalisation) for seed in (1, 1, 2))
    assert all(torch.equal(one.state[key], two.state[key]) for key in one.state)
    assert not torch.equal(one.state["fc.weight"], other.state["fc.weight"])


def test_integer_buffers_keep_their_dtype() -> None:
    update = run(squares(16, (0, 1)), normalisation="averaged")
    assert update.state["bn1.num_batches_tracked"].dtype == torch.int64
    assert int(update.state["bn1.num_batches_tracked"]) == 2  # 16 images in batches of 8


def test_a_single_image_is_refused_because_batch_statistics_need_two() -> None:
    with pytest.raises(DataError, match="1 training images; at least 2 are needed"):
        run(squares(1, (0,)))


@pytest.mark.parametrize(("count", "sizes"), [(16, [8, 8]), (17, [6, 6, 5]), (3, [3])])
def test_no_batch_has_a_single_image(count: int, sizes: list[int]) -> None:
    batches = _batches(count, CONFIG, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(count))


@pytest.mark.parametrize(("local_epochs", "batches"), [(0.25, 1), (0.5, 2), (1, 4), (1.5, 6), (0.01, 1)])
def test_a_part_of_a_local_epoch_is_a_part_of_its_batches(local_epochs: float, batches: int) -> None:
    config = CONFIG.model_copy(update={"local_epochs": local_epochs})
    chosen = _batches(32, config, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in chosen] == [8] * batches


@pytest.mark.parametrize(("count", "sizes"), [(32, [8] * 4), (9, [3, 2, 2, 2]), (5, [3, 2])])
def test_every_hospital_takes_as_many_steps_but_never_with_a_single_image(count: int, sizes: list[int]) -> None:
    config = CONFIG.model_copy(update={"steps_per_epoch": 4})
    assert [len(batch) for batch in _batches(count, config, torch.Generator().manual_seed(0))] == sizes


def test_one_step_of_each_hospital_has_the_mean_gradient_of_one_step_of_all() -> None:
    """With GroupNorm, equal batches and shared moments make federated training equal pooled training, step by step."""
    config = CONFIG.model_copy(update={"augment": False, "steps_per_epoch": 1})
    weights = build_resnet18("group", seed=0).state_dict()
    start, both = {**weights, **adam.initial_moments(weights)}, squares(8, (0, 1, 2, 3))
    halves = [ImageSet(both.pixels[part], both.labels[part], both.groups[part]) for part in (slice(0, 4), slice(4, 8))]
    one, two, together = (
        train_locally(
            start, data, RoundInstructions(config, 1e-3), generator=torch.Generator().manual_seed(0), device=CPU
        ).state
        for data in (*halves, both)
    )
    for key in (key for key in together if key.startswith(adam.FIRST)):
        assert torch.allclose((one[key] + two[key]) / 2, together[key], rtol=1e-3, atol=1e-6), key
    assert int(together[adam.STEPS]) == 1


def test_weak_labels_change_the_training_but_not_what_is_reported_of_a_first_step() -> None:
    config = CONFIG.model_copy(
        update={"augment": False, "batch_size": 32, "mirrored_halves": 0.5, "drawn_lesions": 0.5}
    )

    def trained(weak_labels: bool) -> Update:
        instructions = RoundInstructions(config, 1e-3, weak_labels=weak_labels)
        start, generator = build_resnet18("group", seed=0).state_dict(), torch.Generator().manual_seed(0)
        return train_locally(start, squares(32, (0, 1, 2, 3)), instructions, generator=generator, device=CPU)

    plain, weak, again = trained(False), trained(True), trained(True)
    assert (weak.loss, weak.accuracy) == pytest.approx((plain.loss, plain.accuracy), rel=1e-3)
    assert not torch.equal(weak.state["fc.weight"], plain.state["fc.weight"])
    assert all(torch.equal(weak.state[key], again.state[key]) for key in weak.state)


def test_missing_class_is_discounted_by_its_prior_and_present_classes_are_not() -> None:
    adjustment = missing_class_adjustment(np.array([0, 0, 2]), 0.01)
    assert adjustment.tolist() == pytest.approx([0, math.log(0.01), 0, math.log(0.01)])
    assert missing_class_adjustment(np.array([0, 0, 2]), 1.0).tolist() == [0, 0, 0, 0]


def test_the_adjusted_loss_hardly_pushes_a_missing_class_down() -> None:
    # Equal logits, label glioma, no notumor here. Plain cross-entropy pushes notumor with 1/4;
    # with a prior of 0.01 it pushes with 0.01 / 3.01.
    labels = torch.tensor([0])
    for prior, expected in ((1.0, 1 / 4), (0.01, 0.01 / 3.01)):
        logits = torch.zeros(1, 4, requires_grad=True)
        adjustment = missing_class_adjustment(np.array([0, 1, 2]), prior)
        functional.cross_entropy(logits + adjustment, labels).backward()
        assert logits.grad is not None
        assert logits.grad[0, 3].item() == pytest.approx(expected)


@pytest.mark.parametrize(("prior", "moves"), [(1.0, True), (1e-30, False)])
def test_training_moves_the_weights_of_a_missing_class_only_as_far_as_its_prior_asks(prior: float, moves: bool) -> None:
    start = build_resnet18(seed=0).state_dict()["fc.weight"]
    trained = run(squares(48, (0, 1, 2)), CONFIG.model_copy(update={"missing_class_prior": prior})).state["fc.weight"]
    assert torch.equal(trained[3], start[3]) is not moves
    assert not torch.equal(trained[0], start[0])


def test_the_proximal_gradient_is_mu_times_the_distance_from_the_global_weights() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(5.0)
    layer.weight.grad = torch.tensor([[1.0]])
    _Objective(torch.zeros(4), 0, 0, 0.5, [torch.tensor([[3.0]])]).add_proximal_gradient(layer)
    assert layer.weight.grad.item() == 1 + 0.5 * (5 - 3)


def test_with_the_proximal_term_a_hospital_stays_nearer_to_the_global_weights() -> None:
    start = build_resnet18(seed=0).state_dict()
    free, pulled = (distance(run(squares(64, (0, 1)), proximal_mu=mu), start) for mu in (0.0, 10.0))
    assert pulled < 0.8 * free


def test_mixup_is_part_of_training_where_it_is_configured() -> None:
    """Nearly even fractions, from Beta(10, 10), leave little to be sure of: the loss stays higher than without."""
    data, mixup = squares(32, (0, 1)), CONFIG.model_copy(update={"mixup": 10.0, "augment": False, "local_epochs": 8})
    plain = mixup.model_copy(update={"mixup": 0.0})
    mixed, alone = run(data, mixup), run(data, plain)
    assert alone.accuracy > 0.9
    assert mixed.loss > alone.loss + 0.1


def test_weight_decay_reaches_training() -> None:
    data, plain = squares(16, (0, 1)), CONFIG.model_copy(update={"augment": False})
    decayed = plain.model_copy(update={"weight_decay": 1.0})
    norms = [run(data, config).state["layer4.1.conv2.weight"].norm() for config in (plain, decayed)]
    assert norms[1] < norms[0]


def test_predictions_are_in_the_order_of_the_images() -> None:
    data = squares(10, (0, 1, 2))
    state = build_resnet18(seed=0).state_dict()
    together = predict_images(state, data, CPU).logits
    alone = [
        predict_images(
            state, ImageSet(data.pixels[i : i + 1], data.labels[i : i + 1], data.groups[i : i + 1]), CPU
        ).logits
        for i in range(10)
    ]
    assert np.allclose(together, np.concatenate(alone), atol=1e-4)


def test_a_hospitals_own_running_statistics_are_those_of_its_training_images() -> None:
    data, state = squares(6, (0, 1, 2)), build_resnet18("local", seed=1).state_dict()
    own = localise(state, data, CPU, np.random.default_rng(0))
    pixels = normalise(torch.from_numpy(data.pixels))
    mapped = functional.conv2d(pixels, state["conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(own["bn1.running_mean"], mapped.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(own["bn1.running_var"], mapped.var(dim=(0, 2, 3)))
    assert all(torch.equal(own[key], state[key]) for key in state if not is_running_statistic(key) and "num" not in key)


def test_a_single_image_leaves_the_running_statistics_as_they_are() -> None:
    state = build_resnet18("local", seed=1).state_dict()
    own = localise(state, squares(1, (0,)), CPU, np.random.default_rng(0))
    assert all(torch.equal(own[key], state[key]) for key in state)
