"""The network: reproducible, and with the normalisation that its configuration asks for."""

import pytest
import torch

from medisync.model.device import Device
from medisync.model.resnet import (
    FEATURES,
    RoundBatchNorm2d,
    StandardisedConv2d,
    build_resnet18,
    forward,
    forward_with_features,
    restore_for_training,
    restore_network,
)
from medisync.model.weights import has_batchnorm


def _features_and_stages(number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    device = Device("cpu", bfloat16=False)
    network = restore_network(build_resnet18(seed=0).state_dict(), device).eval()
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, features = forward_with_features(network, batch, device, number)
        assert torch.allclose(logits, forward(network, batch, device))
        children = list(network.children())
        stages = {f"layer{k}": torch.nn.Sequential(*children[: 4 + k])(batch) for k in (2, 3, 4)}
    assert features.shape == (2, number)
    return features, stages


def test_features_are_directions_of_the_last_stages_maxima_and_the_second_stages_means() -> None:
    features, stages = _features_and_stages(FEATURES)
    last, second = features[:, :512], features[:, 512:]
    maxima, means = stages["layer4"].amax(dim=(2, 3)), stages["layer2"].mean(dim=(2, 3))
    assert torch.allclose(last, maxima / maxima.norm(dim=1, keepdim=True), atol=1e-5)
    assert torch.allclose(second, means / means.norm(dim=1, keepdim=True), atol=1e-5)


def test_features_of_earlier_runs_are_the_channel_means_of_the_third_stage() -> None:
    features, stages = _features_and_stages(256)
    assert torch.allclose(features, stages["layer3"].mean(dim=(2, 3)), atol=1e-5)


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (build_resnet18(seed=seed).state_dict()["fc.weight"] for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_running_statistics_cover_the_batches_of_the_round_only() -> None:
    layer = RoundBatchNorm2d(1).train()
    layer.running_mean.fill_(100.0)  # the global model's
    batch = torch.tensor([2.0, 4.0]).view(2, 1, 1, 1)  # mean 3, unbiased variance 2
    layer(batch)
    layer(batch + 2)
    assert (layer.running_mean.item(), layer.running_var.item()) == (4.0, 2.0)
    assert layer.num_batches_tracked.item() == 2


def test_groupnorm_has_no_running_statistics_and_predicts_each_image_by_itself() -> None:
    state = build_resnet18("group").state_dict()
    assert not has_batchnorm(state)
    assert has_batchnorm(build_resnet18("averaged").state_dict())
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


def test_a_network_for_prediction_has_plain_convolutions_with_standardised_kernels() -> None:
    state, device = build_resnet18("group", seed=1).state_dict(), Device("cpu", bfloat16=False)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = restore_network(state, device)
    assert StandardisedConv2d not in map(type, network.modules())
    with torch.inference_mode():
        expected = restore_for_training(state, device)(images)
        assert torch.allclose(network(images), expected, atol=1e-4)
        assert torch.allclose(restore_network(network.state_dict(), device)(images), expected, atol=1e-4)
