"""Checkpoints: written, read back, and refused when damaged."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medisync.errors import FederationError
from medisync.federation.checkpoint import Checkpoint, CheckpointFolder
from medisync.federation.messages import arrays_from_state
from medisync.federation.observer import CheckpointSaver, Observers, TrainingObserver


def checkpoint(value: float = 1.0) -> Checkpoint:
    arrays = arrays_from_state({"w": torch.tensor([value])})
    errors = {"w": np.array([0.25], np.float32)}
    return Checkpoint(arrays, arrays, optimiser={"m_t/w": np.array([2.0])}, errors=errors)


def test_a_checkpoint_comes_back_from_its_folder(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load("federated") is None
    folder.save("federated", checkpoint())
    found = folder.load("federated")
    assert found is not None
    assert found.arrays["w"].numpy().tolist() == found.best["w"].numpy().tolist() == [1.0]
    assert found.optimiser["m_t/w"].tolist() == [2.0]
    assert (found.errors["w"].tolist(), found.errors["w"].dtype) == ([0.25], np.float32)
    assert folder.load("baseline-1") is None


def test_the_saver_saves_under_its_name_and_observers_are_told_in_order(tmp_path: Path) -> None:
    folder, seen = CheckpointFolder(tmp_path), list[bool]()

    class Looking(TrainingObserver):
        def round_validated(self, checkpoint: Checkpoint) -> None:  # noqa: ARG002
            seen.append(folder.load("baseline-1") is not None)

    Observers(Looking(), CheckpointSaver(folder, "baseline-1"), Looking()).round_validated(checkpoint())
    assert seen == [False, True]


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/medisync-was-here",)


@pytest.mark.parametrize("content", ["nothing", "text", "pickle"])
def test_a_damaged_checkpoint_is_refused(content: str, tmp_path: Path) -> None:
    torch.save({"arrays": Malicious()}, tmp_path / "pickle")
    data = {"nothing": b"", "text": b"no checkpoint", "pickle": (tmp_path / "pickle").read_bytes()}[content]
    with pytest.raises(FederationError, match="begin a new run"):
        Checkpoint.from_bytes(data)
    assert not Path("/tmp/medisync-was-here").exists()  # noqa: S108
