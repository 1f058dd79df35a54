"""ResNet18: built from scratch, restored from weights for training or prediction, and run."""

import copy
import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from medisync.config import Normalisation
from medisync.errors import ModelError
from medisync.model.device import Device
from medisync.model.weights import State, cpu_copy, find_problem, has_batchnorm, read_state
from medisync.schemas import LABELS

Pooling = Callable[[Tensor], Tensor]
"""Feature maps [N, C, h, w] -> features [N, C]."""


def _largest(maps: Tensor) -> Tensor:
    """Each channel's largest value, as a vector of length 1 for each image: what is anywhere in it, however bright."""
    return functional.normalize(maps.amax(dim=(2, 3)), dim=1)


def _mean(maps: Tensor) -> Tensor:
    return maps.mean(dim=(2, 3))


def _mean_direction(maps: Tensor) -> Tensor:
    """Each channel's mean, as a vector of length 1 for each image."""
    return functional.normalize(_mean(maps), dim=1)


FEATURE_LAYOUTS: Mapping[int, Mapping[str, Pooling]] = {
    640: {"layer4": _largest, "layer2": _mean_direction},
    256: {"layer3": _mean},
}
"""How features are made, by their number: stages, in the order of their features, and how their maps are pooled. The last
stage tells unknown tumours from known ones, the second photographs from scans. Runs before 2026-11-29 have 256."""

FEATURES = 640
"""Features of an image in runs that are made now: 512 of the last stage, 128 of the second."""

NormLayer = Callable[[int], nn.Module]
"""Makes a normalisation layer for a number of channels."""


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 over the inputs of each output, whatever its weights are.

    With weight standardisation, GroupNorm learns as fast as BatchNorm: Qiao et al. 2019,
    https://arxiv.org/abs/1903.10520.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (named as in Conv2d)
        return self._conv_forward(input, self._standardised_kernels(), self.bias)

    def _standardised_kernels(self) -> Tensor:
        in_memory = self.weight.permute(0, 2, 3, 1)  # channels last, so that nothing is copied
        return functional.layer_norm(in_memory, in_memory.shape[1:], eps=1e-10).permute(0, 3, 1, 2)

    @torch.no_grad()
    def make_plain(self) -> None:
        """Becomes a plain convolution with standardised kernels, so that prediction need not recompute them."""
        self.weight.copy_(self._standardised_kernels())
        self.__class__ = nn.Conv2d  # type: ignore[assignment]


class GroupNorm(nn.GroupNorm):
    """GroupNorm in groups of 16 channels, which torch computes on a CPU six times as fast as groups of 4.

    Each image is normalised by itself, so that training, prediction and every hospital normalise alike and there are no
    running statistics to aggregate: Wu & He 2018, https://arxiv.org/abs/1803.08494.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels // 16, channels)


class RoundBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose running statistics cover the batches of the current round only.

    They start anew in every round instead of moving on from the global model's: what a hospital returns describes its
    own images under the weights that it was sent. They are the mean over the first ten batches, then move with momentum
    0.1, because the weights change. The keys in the state_dict are those of BatchNorm2d.
    """

    momentum: float

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self._batches = 0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (named as in BatchNorm2d)
        if self.training:
            self._batches += 1
            self.momentum = max(1 / self._batches, 0.1)
        return super().forward(input)


def build_resnet18(normalisation: Normalisation = "averaged", *, seed: int = 0) -> nn.Module:
    """ResNet18 with random weights and one output per class.

    Takes float32 [N, 3, S, S] as `medisync.imaging.preprocessing.normalise` makes it; returns logits [N, classes]. The
    same seed gives the same weights; torch's global random state is left unchanged.

    He et al. 2016, https://arxiv.org/abs/1512.03385.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _network(_norm_layer(normalisation))


def _norm_layer(normalisation: Normalisation) -> NormLayer:
    return GroupNorm if normalisation == "group" else nn.BatchNorm2d


def _network(norm_layer: NormLayer) -> nn.Module:
    network = resnet18(weights=None, num_classes=len(LABELS), norm_layer=norm_layer)
    if norm_layer is GroupNorm:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.__class__ = StandardisedConv2d  # torchvision's ResNet has no argument for the kind of convolution
    return network


@functools.cache
def _template(norm_layer: NormLayer) -> nn.Module:
    """A network without memory for weights, to be copied: building one takes longer than the rest of `_restore`."""
    with torch.device("meta"):
        return _network(norm_layer)


def weight_layout(normalisation: Normalisation) -> dict[str, Tensor]:
    """Keys, shapes and dtypes of a network's weights, without values; `find_problem` compares with it."""
    return _template(_norm_layer(normalisation)).state_dict()


def load_weights(file: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The weights in a .pth file as float32, read with `weights_only=True`, so that no pickle is executed.

    Raises ModelError, naming the problem, if the file's hash is not `sha256` (where given), if keys, shapes or dtypes
    are not those of ResNet18, or if a value is not finite.
    """
    state = read_state(file, sha256)
    if problem := find_problem(state, weight_layout("averaged" if has_batchnorm(state) else "group")):
        raise ModelError(f"{file.name} does not fit this program's ResNet18: {problem}")
    return state


def restore_for_training(state: State, device: Device) -> nn.Module:
    """The network with these weights, in training mode, on the device; BatchNorm's running statistics start anew."""
    network = _restore(RoundBatchNorm2d if has_batchnorm(state) else GroupNorm, state)
    return network.to(device.kind, memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def restore_network(state: State, device: Device) -> nn.Module:
    """The network with these weights, on the device, for prediction: all convolutions are plain."""
    network = _restore(nn.BatchNorm2d if has_batchnorm(state) else GroupNorm, state)
    for layer in network.modules():
        if isinstance(layer, StandardisedConv2d):
            layer.make_plain()
    return network.to(device.kind, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _restore(norm_layer: NormLayer, state: State) -> nn.Module:
    """The network with a copy of these weights in the memory layout that it computes in."""
    network = copy.deepcopy(_template(norm_layer))
    network.load_state_dict({key: _channels_last(tensor) for key, tensor in state.items()}, assign=True)
    return network


def _channels_last(tensor: Tensor) -> Tensor:
    """Copies a tensor; convolution kernels are laid out with their channels last."""
    return tensor.clone(memory_format=torch.channels_last if tensor.dim() == 4 else torch.contiguous_format)


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights after training, on the CPU, with the running statistics of the round."""
    return {key: cpu_copy(tensor) for key, tensor in network.state_dict().items()}


def forward(network: nn.Module, batch: Tensor, device: Device) -> Tensor:
    """Logits float32 [N, classes] of a normalised batch, computed in bfloat16 where the hardware has it."""
    with torch.autocast(device.kind, torch.bfloat16, enabled=device.bfloat16):
        logits: Tensor = network(batch)
    return logits.float()


def forward_with_features(
    network: nn.Module, batch: Tensor, device: Device, features: int = FEATURES
) -> tuple[Tensor, Tensor]:
    """The logits of `forward`, and features float32 [N, features], as FEATURE_LAYOUTS has it for their number."""
    layout = FEATURE_LAYOUTS[features]
    logits, maps = forward_with_stages(network, batch, device, layout)
    return logits, torch.cat([pool(maps[stage].float()) for stage, pool in layout.items()], dim=1)


def forward_with_stages(
    network: nn.Module, batch: Tensor, device: Device, stages: Collection[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of `forward`, and the feature maps [N, C, h, w] of the stages named.

    Runs layer by layer and without hooks: hooks belong to the network, and sessions that share it would get each
    other's maps.
    """
    maps, value = dict[str, Tensor](), batch
    with torch.autocast(device.kind, torch.bfloat16, enabled=device.bfloat16):
        for name, layer in network.named_children():
            value = layer(value.flatten(1) if name == "fc" else value)
            if name in stages:
                maps[name] = value
    return value.float(), maps
