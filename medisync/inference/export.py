"""The published network in formats that other programs read: its weights as safetensors, the whole computation as ONNX.

The metadata of each file describe it, as `describe` writes them.
"""

import importlib
import json
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from medisync.errors import ConfigError, ModelError
from medisync.imaging.preprocessing import normalise
from medisync.inference.predictor import Classifier
from medisync.model.device import Device
from medisync.model.resnet import forward_with_features, restore_network
from medisync.model.weights import has_batchnorm
from medisync.schemas import LABELS

TOLERANCE = 1e-3
"""Largest difference of a probability between the exported network and this program's."""

OPSET = 18
"""Version of ONNX's operators; onnxruntime has read it since 1.14 of February 2023."""

CHECK_IMAGES = 4
"""Images on which the exported network is compared with this program's."""


def to_safetensors(classifier: Classifier) -> bytes:
    """The weights as float32, under torchvision's names for a ResNet18, with `describe` as the file's metadata.

    Convolution kernels are those that prediction uses: standardised, if training standardises them.
    """
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in classifier.network.state_dict().items()}
    return save(state, metadata=describe(classifier))


def to_onnx(classifier: Classifier) -> bytes:
    """The computation from standardised pixels to calibrated probabilities, with `describe` as the file's metadata.

    Input `pixels`: uint8 [N, S, S], grey, as `medisync.imaging.preprocessing.standardise` makes them. Outputs, float32
    whatever the device computes in: `probabilities` [N, classes], calibrated, in the order of `labels`; `logits` [N,
    classes]; `features` [N, D], from which the OOD score is computed.

    Raises ConfigError if a package is missing, ModelError if onnxruntime does not compute what this program computes.
    """
    onnx = _require("onnx")
    for package in ("onnxruntime", "onnxscript"):
        _require(package)
    computation = _Computation(classifier).eval()
    pixels = torch.zeros(2, computation.side, computation.side, dtype=torch.uint8)
    program = torch.onnx.export(
        computation,
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
    _require_same(content, computation)
    return content


def describe(classifier: Classifier) -> dict[str, str]:
    """The metadata of an exported file, as text: classes in order, network, image size, calibration, purpose."""
    meta, batchnorm = classifier.meta, has_batchnorm(classifier.network.state_dict())
    return {
        "labels": json.dumps(list(LABELS)),
        "network": f"ResNet18, {'BatchNorm' if batchnorm else 'GroupNorm, 16 channels a group'}",
        "image_size": str(meta.image_size),
        "temperature": repr(classifier.calibration.temperature),
        "conformal_threshold": repr(classifier.calibration.conformal_threshold),
        "model_sha256": meta.model_sha256,
        "hospital": classifier.hospital,
        "use": "Research only. Not a medical device; nothing that it computes is a diagnosis.",
    }


class _Computation(nn.Module):
    """The whole computation from standardised pixels to probabilities as one network, on the CPU in float32."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.device = Device("cpu", bfloat16=False)
        self.network = restore_network(classifier.network.state_dict(), self.device).eval()
        self.side = classifier.meta.image_size
        self.features = classifier.distribution.features
        self.temperature = classifier.calibration.temperature
        self.adjustment = nn.Buffer(torch.from_numpy(classifier.adjustment).to(torch.float32))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, features = forward_with_features(self.network, normalise(pixels), self.device, self.features)
        logits = logits + self.adjustment
        return (logits / self.temperature).softmax(dim=1), logits, features


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f"ONNX needs the package {package}: pip install 'medisync[export]'") from None


def _require_same(content: bytes, computation: _Computation) -> None:
    """Raises ModelError if the exported network's probabilities for images of noise differ by more than TOLERANCE.

    Noise will do: what an image shows does not matter to whether two programs compute the same.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (CHECK_IMAGES, computation.side, computation.side)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    session = _require("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"pixels": pixels.numpy()})
    with torch.inference_mode():
        expected = computation(pixels)[0].numpy()
    if (difference := float(abs(found - expected).max())) > TOLERANCE:
        raise ModelError(
            f"the exported network's probabilities differ by {difference:.2g} from this program's, but at most"
            f" {TOLERANCE:g} is accepted; nothing was written"
        )
