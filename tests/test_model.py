"""Weights that cannot be trusted are refused with the reason."""

import pickle
from pathlib import Path

import pytest
import torch

from medisync import model
from medisync.errors import ModelError


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return dict(model.build(seed=1).state_dict())


def save(folder: Path, content: object) -> Path:
    file = folder / "model.pth"
    torch.save(content, file)
    return file


def test_weights_survive_the_disk(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    (tmp_path / "model.pth").write_bytes(model.serialise(state))
    loaded = model.load(tmp_path / "model.pth")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) and loaded[key].dtype == state[key].dtype for key in state)


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (model.build(seed=seed).state_dict()["fc.weight"] for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


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
            file.write_bytes(model.serialise(state)[:100_000])
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
        model.load(file)


def test_a_model_that_was_exchanged_is_refused_by_its_hash(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(model.serialise(state))
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        model.load(file, sha256="0" * 64)
