"""Weights that cannot be trusted are refused with the reason."""

import pickle
from pathlib import Path

import pytest
import torch

from medisync.errors import ModelError
from medisync.model.device import Device
from medisync.model.resnet import (
    FEATURES,
    RoundBatchNorm2d,
    StandardisedConv2d,
    build_resnet18,
    forward,
    forward_with_features,
    load_weights,
    restore_for_training,
    restore_network,
)
from medisync.model.weights import has_statistics, round_weights, serialise


@pytest.fixture(scope="module", params=["group", "averaged"])
def state(request: pytest.FixtureRequest) -> dict[str, torch.Tensor]:
    return dict(build_resnet18(request.param, seed=1).state_dict())


def save(folder: Path, content: object) -> Path:
    file = folder / "model.pth"
    torch.save(content, file)
    return file


def test_weights_survive_the_disk(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    (tmp_path / "model.pth").write_bytes(serialise(state))
    loaded = load_weights(tmp_path / "model.pth")
    assert loaded.keys() == state.keys()
    expected = round_weights(state)
    assert all(torch.equal(loaded[key], expected[key]) and loaded[key].dtype == state[key].dtype for key in state)


def test_a_file_takes_half_the_space_and_rounds_to_eleven_bits() -> None:
    state = build_resnet18(seed=1).state_dict()
    assert len(serialise(state)) < 25_000_000
    rounded = round_weights(state)
    assert torch.equal(rounded["bn1.running_var"], state["bn1.running_var"])
    assert not torch.equal(rounded["conv1.weight"], state["conv1.weight"])
    assert torch.allclose(rounded["conv1.weight"], state["conv1.weight"], rtol=2**-11, atol=1e-7)


def test_features_are_the_channel_means_of_the_third_stage() -> None:
    device = Device("cpu", bfloat16=False)
    network = restore_network(build_resnet18(seed=0).state_dict(), device).eval()
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, features = forward_with_features(network, batch, device)
        third = torch.nn.Sequential(*list(network.children())[:7])(batch)
        assert torch.allclose(logits, forward(network, batch, device))
    assert features.shape == (2, FEATURES)
    assert torch.allclose(features, third.mean(dim=(2, 3)), atol=1e-5)


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (build_resnet18(seed=seed).state_dict()["fc.weight"] for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_running_statistics_are_those_of_the_batches_of_the_round_alone() -> None:
    layer = RoundBatchNorm2d(1).train()
    layer.running_mean.fill_(100.0)  # the global model's
    batch = torch.tensor([2.0, 4.0]).view(2, 1, 1, 1)  # mean 3, unbiased variance 2
    layer(batch)
    layer(batch + 2)
    assert (layer.running_mean.item(), layer.running_var.item()) == (4.0, 2.0)
    assert layer.num_batches_tracked.item() == 2


def test_group_normalisation_has_no_statistics_and_predicts_each_image_by_itself() -> None:
    state = build_resnet18("group").state_dict()
    assert not has_statistics(state)
    assert has_statistics(build_resnet18("averaged").state_dict())
    network = restore_for_training(state, Device("cpu", bfloat16=False))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-5)


def test_kernels_are_standardised_whatever_their_scale_and_mean() -> None:
    # over 1 input channel and 2 pixels, the kernel (1, 3) has mean 2 and deviation 1: standardised (-1, 1)
    layer = StandardisedConv2d(1, 1, (1, 2), bias=False)
    layer.weight.data = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    assert layer(torch.tensor([5.0, 7.0]).view(1, 1, 1, 2)).item() == pytest.approx(2, abs=1e-5)
    layer.weight.data = 10 * layer.weight.data + 4
    assert layer(torch.tensor([5.0, 7.0]).view(1, 1, 1, 2)).item() == pytest.approx(2, abs=1e-5)


def test_only_the_network_with_groupnorm_standardises_its_kernels() -> None:
    kinds = {name: {type(layer) for layer in build_resnet18(name).modules()} for name in ("group", "averaged")}
    assert StandardisedConv2d in kinds["group"]
    assert torch.nn.Conv2d not in kinds["group"]
    assert StandardisedConv2d not in kinds["averaged"]


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle was executed')",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("malicious", "is no file of plain weights, so it was not loaded"),
        ("cut off", "is no file of plain weights"),
        ("text", "is no file of plain weights"),
        ("list", "holds list, expected a state_dict"),
        ("other architecture", "does not fit this program's ResNet18: .* is missing"),
        ("extra key", "extra is unknown"),
        ("shape", r"fc.bias has shape \[5\], expected \[4\]"),
        ("dtype", "fc.bias has dtype torch.float64, expected torch.float32"),
        ("nan", "fc.bias holds values that are not finite"),
        ("missing", r"cannot be read .*; train a model with `medisync train`"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(
    tmp_path: Path, state: dict[str, torch.Tensor], name: str, reason: str
) -> None:
    file = tmp_path / "model.pth"
    match name:
        case "malicious":
            file.write_bytes(pickle.dumps(Malicious()))
        case "cut off":
            file.write_bytes(serialise(state)[:100_000])
        case "text":
            file.write_text("these are no weights")
        case "list":
            save(tmp_path, [torch.zeros(3)])
        case "other architecture":
            save(tmp_path, {"layer.weight": torch.zeros(3)})
        case "extra key":
            save(tmp_path, {**state, "extra": torch.zeros(1)})
        case "shape":
            save(tmp_path, {**state, "fc.bias": torch.zeros(5)})
        case "dtype":
            save(tmp_path, {**state, "fc.bias": torch.zeros(4, dtype=torch.float64)})
        case "nan":
            save(tmp_path, {**state, "fc.bias": torch.full((4,), float("nan"))})
    with pytest.raises(ModelError, match=reason):
        load_weights(file)


def test_a_model_that_was_exchanged_is_refused_by_its_hash(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(serialise(state))
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        load_weights(file, sha256="0" * 64)


def test_a_network_to_predict_with_has_its_kernels_standardised_for_good() -> None:
    state, device = build_resnet18("group", seed=1).state_dict(), Device("cpu", bfloat16=False)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = restore_network(state, device)
    assert StandardisedConv2d not in map(type, network.modules())
    with torch.inference_mode():
        expected = restore_for_training(state, device)(images)
        assert torch.allclose(network(images), expected, atol=1e-4)
        assert torch.allclose(restore_network(network.state_dict(), device)(images), expected, atol=1e-4)
