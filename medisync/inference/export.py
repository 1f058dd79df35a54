"""The published network in formats that other programs read: its weights as safetensors, the whole computation as ONNX.

Each file says what it is in its metadata, as `describe` writes it.
"""

import importlib
import json
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from medisync.data.preprocessing import normalise
from medisync.errors import ConfigError, ModelError
from medisync.inference.predictor import Classifier
from medisync.model.device import Device
from medisync.model.resnet import forward_with_features, restore_network
from medisync.model.weights import has_batchnorm
from medisync.schemas import LABELS

TOLERANCE = 1e-3
"""Largest difference of a probability between the exported network and this program's."""

OPSET = 18
"""Of ONNX; onnxruntime has read it since 1.14, of February 2023."""

CHECK_IMAGES = 4


def to_safetensors(classifier: Classifier) -> bytes:
    """The weights float32, under torchvision's names for a ResNet18, with `describe` as the file's metadata.

    Kernels are as they are used: where training standardises them, standardised.
    """
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in classifier.network.state_dict().items()}
    return save(state, metadata=describe(classifier))


def to_onnx(classifier: Classifier) -> bytes:
    """The computation from standardised pixels to calibrated probabilities, with `describe` as the file's metadata.

    Input `pixels`: uint8 [N, S, S], grey, as `medisync.data.preprocessing.standardise` makes them. Outputs, float32: `probabilities`
    [N, classes], calibrated, in the order of `labels`; `logits` [N, classes]; `features` [N, model.FEATURES], from which the
    distance to the training scans is computed. Always in float32, whatever the device computes in.

    Raises ConfigError where a package is missing, ModelError where onnxruntime does not compute what this program does.
    """
    onnx = _require("onnx")
    for package in ("onnxruntime", "onnxscript"):
        _require(package)
    whole = _Whole(classifier).eval()
    pixels = torch.zeros(2, whole.side, whole.side, dtype=torch.uint8)
    program = torch.onnx.export(
        whole,
        (pixels,),
        input_names=["pixels"],
        output_names=["probabilities", "logits", "features"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("images", min=1)}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    graph = program.model_proto  # type: ignore[union-attr]
    onnx.helper.set_model_props(graph, describe(classifier))
    content = bytes(graph.SerializeToString())
    _require_same(content, whole)
    return content


def describe(classifier: Classifier) -> dict[str, str]:
    """What a file says of itself, values as text: classes in order, network, side of the images, calibration, purpose."""
    meta, batch_norm = classifier.meta, has_batchnorm(classifier.network.state_dict())
    return {
        "labels": json.dumps(list(LABELS)),
        "network": f"ResNet18, {'BatchNorm' if batch_norm else 'GroupNorm, 16 channels a group'}",
        "image_size": str(meta.image_size),
        "temperature": repr(meta.calibration.temperature),
        "conformal_threshold": repr(meta.calibration.conformal_threshold),
        "model_sha256": meta.model_sha256,
        "statistics_of": classifier.hospital,
        "use": "Research only. Not a medical device; nothing that it computes is a diagnosis.",
    }


class _Whole(nn.Module):
    """From pixels to probabilities in one network, on the CPU in float32."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.device = Device("cpu", bfloat16=False)
        self.network = restore_network(classifier.network.state_dict(), self.device).eval()
        self.side = classifier.meta.image_size
        self.temperature = classifier.meta.calibration.temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, features = forward_with_features(self.network, normalise(pixels), self.device)
        return (logits / self.temperature).softmax(dim=1), logits, features


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f"ONNX needs the package {package}: pip install 'medisync[export]'") from None


def _require_same(content: bytes, whole: _Whole) -> None:
    """On noise: what a picture shows does not matter for whether two programs compute the same."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (CHECK_IMAGES, whole.side, whole.side), dtype=torch.uint8, generator=generator)
    session = _require("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"pixels": pixels.numpy()})
    with torch.inference_mode():
        expected = whole(pixels)[0].numpy()
    if (difference := float(abs(found - expected).max())) > TOLERANCE:
        raise ModelError(
            f"the exported network's probabilities differ by {difference:.2g} from this program's, at most {TOLERANCE:g} is"
            " accepted; nothing was written"
        )
