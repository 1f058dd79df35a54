"""The network, and weights that can be trusted: built, serialised, loaded and checked here only."""

import copy
import functools
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from medisync.config import Normalisation
from medisync.errors import ModelError
from medisync.model.device import Device
from medisync.model.weights import State, _read_state, find_problem, has_statistics, to_send
from medisync.schemas import LABELS

FEATURE_LAYER = "layer3"


FEATURES = 256


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 over what each output sees, whatever its weights are.

    Weight standardisation: Qiao et al. 2019, https://arxiv.org/abs/1903.10520. With it GroupNorm learns as fast as BatchNorm.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (Conv2d calls it so)
        return self._conv_forward(input, self._kernels(), self.bias)

    def _kernels(self) -> Tensor:
        in_memory = self.weight.permute(0, 2, 3, 1)  # channels last, so that nothing is copied
        return functional.layer_norm(in_memory, in_memory.shape[1:], eps=1e-10).permute(0, 3, 1, 2)

    @torch.no_grad()
    def settle(self) -> None:
        """Becomes a plain convolution with the kernels that it uses: prediction need not compute them for every image."""
        self.weight.copy_(self._kernels())
        self.__class__ = nn.Conv2d  # type: ignore[assignment]


class GroupNorm(nn.GroupNorm):
    """Wu & He 2018, https://arxiv.org/abs/1803.08494: each image by itself, so that training, prediction and every hospital
    normalise alike and there are no statistics to aggregate. Groups of 16 channels, which torch computes on a CPU six times as
    fast as groups of 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels // 16, channels)


def build_resnet18(normalisation: Normalisation = "averaged", *, seed: int = 0) -> nn.Module:
    """ResNet18 without pretrained weights (He et al. 2016, https://arxiv.org/abs/1512.03385), one output per class.

    Takes float [N, 3, S, S] as `images.normalise` makes it and returns logits [N, classes]. The same seed gives the same
    weights; the global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _network(_norm_layer(normalisation))


def _norm_layer(normalisation: Normalisation) -> Callable[[int], nn.Module]:
    return GroupNorm if normalisation == "group" else nn.BatchNorm2d


class RoundBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose running statistics are those of the batches of this round alone.

    They start anew with every round, instead of moving on from the global model's: what a hospital returns describes its
    own images under the weights that it was sent. They average the first ten batches, then move with momentum 0.1,
    because the weights change. Same keys in the state_dict as BatchNorm2d.
    """

    momentum: float

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self._batches = 0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (BatchNorm2d calls it so)
        if self.training:
            self._batches += 1
            self.momentum = max(1 / self._batches, 0.1)
        return super().forward(input)


def _network(norm_layer: Callable[[int], nn.Module]) -> nn.Module:
    network = resnet18(weights=None, num_classes=len(LABELS), norm_layer=norm_layer)
    if norm_layer is GroupNorm:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.__class__ = StandardisedConv2d  # ResNet has no argument for its convolutions
    return network


@functools.cache
def _blank(norm_layer: Callable[[int], nn.Module]) -> nn.Module:
    """A network without memory for weights, to copy: to make one takes longer than all else that `_restored` does."""
    with torch.device("meta"):
        return _network(norm_layer)


def weight_layout(normalisation: Normalisation) -> dict[str, Tensor]:
    """Keys, shapes and dtypes of a network's weights, without values: what `find_problem` compares with."""
    return _blank(_norm_layer(normalisation)).state_dict()


def _restored(norm_layer: Callable[[int], nn.Module], state: State) -> nn.Module:
    """The network with a copy of these weights, in the order in memory that it computes in."""
    network = copy.deepcopy(_blank(norm_layer))
    network.load_state_dict({key: _channels_last(tensor) for key, tensor in state.items()}, assign=True)
    return network


def _channels_last(tensor: Tensor) -> Tensor:
    """A copy; kernels with their channels last."""
    return tensor.clone(memory_format=torch.channels_last if tensor.dim() == 4 else torch.contiguous_format)


def restore_for_training(state: State, device: Device) -> nn.Module:
    """The network with these weights, in training mode, on the device; BatchNorm's running statistics start anew."""
    network = _restored(RoundBatchNorm2d if has_statistics(state) else GroupNorm, state)
    return network.to(device.kind, memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights after training, on the CPU, with the running statistics of the round."""
    return {key: to_send(tensor) for key, tensor in network.state_dict().items()}


def restore_network(state: State, device: Device) -> nn.Module:
    """The network with these weights, on the device, to predict with."""
    network = _restored(nn.BatchNorm2d if has_statistics(state) else GroupNorm, state)
    for layer in network.modules():
        if isinstance(layer, StandardisedConv2d):
            layer.settle()
    return network.to(device.kind, memory_format=torch.channels_last)  # type: ignore[call-overload]


def forward(network: nn.Module, batch: Tensor, device: Device) -> Tensor:
    """Logits float32 [N, classes] of a normalised batch, computed in bfloat16 where the device is fast at it."""
    with torch.autocast(device.kind, torch.bfloat16, enabled=device.bfloat16):
        logits: Tensor = network(batch)
    return logits.float()


def forward_with_features(network: nn.Module, batch: Tensor, device: Device) -> tuple[Tensor, Tensor]:
    """The same logits, and features float32 [N, FEATURES]: the mean of each channel after the third stage.

    The third stage still sees what kind of picture it is; the last one has kept little but the classes.
    """
    logits, (maps,) = forward_with_stages(network, batch, device, (FEATURE_LAYER,))
    return logits, maps.float().mean(dim=(2, 3))


def forward_with_stages(
    network: nn.Module, batch: Tensor, device: Device, stages: Collection[str]
) -> tuple[Tensor, list[Tensor]]:
    """The same logits, and what the stages of these names return, from the input on.

    Layer by layer and without hooks, which belong to the network: sessions that share it would get each other's maps.
    """
    seen, value = [], batch
    with torch.autocast(device.kind, torch.bfloat16, enabled=device.bfloat16):
        for name, layer in network.named_children():
            value = layer(value.flatten(1) if name == "fc" else value)
            if name in stages:
                seen.append(value)
    return value.float(), seen


def load_weights(file: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The checked weights in `file`, float32; ModelError says what is wrong with anything else.

    Read with `weights_only=True`, so that a malicious pickle is refused and not executed; then the hash where one is
    given, the keys, shapes and dtypes of our ResNet18, and finite values.
    """
    state = _read_state(file, sha256)
    if problem := find_problem(state, weight_layout("averaged" if has_statistics(state) else "group")):
        raise ModelError(f"{file.name} does not fit this program's ResNet18: {problem}")
    return state
