"""Weights survive the disk, and those that cannot be trusted are refused with the reason."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from medisync.errors import ModelError
from medisync.model.resnet import build_resnet18, load_weights
from medisync.model.weights import l2_distance, round_weights, serialise


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


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle was executed')",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("malicious", "is not a file of plain weights, so it was not loaded"),
        ("cut off", "is not a file of plain weights"),
        ("text", "is not a file of plain weights"),
        ("list", "holds list, expected a state_dict"),
        ("other architecture", "does not fit this program's ResNet18: .* is missing"),
        ("extra key", "extra is unknown"),
        ("shape", r"fc.bias has shape \[5\], expected \[4\]"),
        ("dtype", "fc.bias has dtype torch.float64, expected torch.float32"),
        ("nan", "fc.bias holds values that are not finite"),
        ("missing", r"cannot be read .*; train a model with `medisync train`"),
    ],
)
def test_anything_but_a_model_is_refused_with_the_reason(
    tmp_path: Path, state: dict[str, torch.Tensor], name: str, reason: str
) -> None:
    file = tmp_path / "model.pth"
    match name:
        case "malicious":
            file.write_bytes(pickle.dumps(Malicious()))
        case "cut off":
            file.write_bytes(serialise(state)[:100_000])
        case "text":
            file.write_text("these are not weights")
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


def test_a_model_that_was_replaced_is_refused_by_its_hash(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(serialise(state))
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        load_weights(file, sha256="0" * 64)


def test_distance_of_large_changes_is_computed_in_doubles() -> None:
    one = {"a": np.array([3e30], np.float32), "b": np.array([0.0], np.float32), "c": np.array([1.0], np.float32)}
    other = {"a": np.array([0.0], np.float32), "b": np.array([4e30], np.float32), "c": np.array([9.0], np.float32)}
    assert l2_distance(one, other, ["c"]) == 8
    assert l2_distance(one, other, ["a", "b"]) == pytest.approx(5e30)  # its square is beyond float32
