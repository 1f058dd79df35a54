"""The published network computes in other programs' formats what it computes in this one."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from medisync.cli.main import main
from medisync.imaging.decoding import decode
from medisync.imaging.preprocessing import standardise
from medisync.inference import predictor
from medisync.inference.predictor import Classifier
from medisync.model.device import Device
from medisync.model.resnet import load_weights, restore_for_training
from medisync.schemas import LABELS
from medisync.workspace import artifacts

ROOT = Path(__file__).parent.parent.parent
CPU = Device("cpu", bfloat16=False)
SAMPLES = sorted((ROOT / "medisync" / "dashboard" / "samples").glob("*.png"))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return predictor.open_run(ROOT / "models")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    files = ["--safetensors", str(folder / "network.safetensors"), "--onnx", str(folder / "network.onnx")]
    assert main(["export", "--workspace", str(ROOT), *files]) == 0
    return folder


def test_the_weights_are_those_of_torchvisions_network(exported: Path) -> None:
    """The published network has GroupNorm, and its convolution kernels need no standardising any more."""
    network = models.resnet18(
        num_classes=len(LABELS), norm_layer=lambda channels: nn.GroupNorm(channels // 16, channels)
    )
    weights, published = load_file(exported / "network.safetensors"), load_weights(ROOT / "models" / artifacts.MODEL)
    network.load_state_dict(weights)
    assert all(torch.equal(weights[key], tensor) for key, tensor in published.items() if tensor.dim() != 4)
    ours = restore_for_training(published, CPU)
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(network(batch), ours(batch), atol=1e-3)


def test_the_metadata_of_both_files_describe_them(exported: Path, classifier: Classifier) -> None:
    with safe_open(exported / "network.safetensors", "pt") as file:
        said = file.metadata()
    session = onnxruntime.InferenceSession(exported / "network.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == said
    assert json.loads(said["labels"]) == list(LABELS)
    assert float(said["temperature"]) == classifier.meta.calibration.temperature
    assert "not a medical device" in said["use"].lower()


@pytest.mark.parametrize("count", [1, 3])
def test_onnxruntime_computes_the_same_probabilities(exported: Path, classifier: Classifier, count: int) -> None:
    read = [decode(SAMPLES[number % len(SAMPLES)].read_bytes()).pixels for number in range(count)]
    pixels = np.stack([standardise(each, classifier.meta.image_size) for each in read])
    session = onnxruntime.InferenceSession(exported / "network.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"pixels": pixels})
    for row, each in zip(found, pixels, strict=True):
        expected = predictor.predict_standardised(classifier, each).probabilities
        assert row.tolist() == pytest.approx(
            [expected[label] for label in LABELS], abs=0.02 if is_coarse(classifier) else 1e-3
        )


def is_coarse(classifier: Classifier) -> bool:
    """True where this program computes in bfloat16, whose error is larger than the exported file's."""
    return classifier.device.bfloat16


def test_an_export_that_is_impossible_is_explained_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--workspace", str(ROOT)]) == 2
    assert "give --safetensors FILE, --onnx FILE or both" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", "--workspace", str(ROOT), "--onnx", str(tmp_path / "network.onnx")]) == 2
    assert "ONNX needs the package onnxscript: pip install 'medisync[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
