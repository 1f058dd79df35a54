"""Checkpoints: a federation between two rounds, as one file from which it can be resumed."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord
from numpy.typing import NDArray
from pydantic import TypeAdapter

from medisync.errors import FederationError
from medisync.federation.broadcast import Broadcast, Change, Errors
from medisync.federation.messages import arrays_from_state, weights_only
from medisync.schemas import HistoryEntry
from medisync.workspace.atomic import write_bytes

_history_schema = TypeAdapter(list[HistoryEntry])


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next round needs.

    Hospitals keep nothing between rounds, and all randomness follows from the seed and the round, so a federation that
    is resumed from here ends with the same bits as one that was never interrupted.
    """

    arrays: ArrayRecord
    """Global weights after the last round, with Adam's moments where hospitals share them."""
    best: ArrayRecord
    """Global weights of the selected round."""
    best_round: int = 0
    """The selected round; 0 before the first."""
    history: list[HistoryEntry] = field(default_factory=list)
    optimiser: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """State of the server's optimiser, by name."""
    errors: Errors = field(default_factory=dict)
    """What the server means beyond the global arrays, where it rounds what it sends."""
    change: Change | None = None
    """The last change, for hospitals that have the arrays before. It is not in the file: a resumed federation begins by
    sending the whole arrays, which have the same bits."""

    @property
    def rounds_done(self) -> int:
        return len(self.history)

    @property
    def broadcast(self) -> Broadcast:
        return Broadcast(self.arrays, self.errors, self.change)

    def to_bytes(self) -> bytes:
        """Returns a file of plain tensors and text."""
        improved = self.best_round == self.rounds_done
        buffer = io.BytesIO()
        torch.save(
            {
                "arrays": dict(self.arrays.to_torch_state_dict()),
                "best": {} if improved else dict(weights_only(self.best).to_torch_state_dict()),
                "best_round": self.best_round,
                "history": _history_schema.dump_json(self.history).decode(),
                "optimiser": {name: torch.from_numpy(np.array(array)) for name, array in self.optimiser.items()},
                "errors": {name: torch.from_numpy(array) for name, array in self.errors.items()},
            },
            buffer,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Reads what `to_bytes` wrote; nothing in the file is executed. Raises FederationError for anything else."""
        try:
            stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            arrays = arrays_from_state(stored["arrays"])
            return cls(
                arrays=arrays,
                best=arrays_from_state(stored["best"]) if stored["best"] else arrays,
                best_round=int(stored["best_round"]),
                history=_history_schema.validate_json(stored["history"]),
                optimiser={name: tensor.numpy() for name, tensor in stored["optimiser"].items()},
                errors={name: tensor.numpy() for name, tensor in stored.get("errors", {}).items()},
            )
        except Exception as error:  # torch raises whatever arbitrary bytes lead it to  # noqa: BLE001
            reason = (str(error).splitlines() or ["unknown format"])[0][:120]
            raise FederationError(f"a checkpoint cannot be read ({reason}); begin a new run") from None


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run's federations, one file for each name."""

    folder: Path

    def load(self, name: str) -> Checkpoint | None:
        """Returns the checkpoint, or None where none was saved. Raises FederationError if it cannot be read."""
        file = self._file(name)
        return Checkpoint.from_bytes(file.read_bytes()) if file.exists() else None

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        write_bytes(self._file(name), checkpoint.to_bytes())

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pth"
