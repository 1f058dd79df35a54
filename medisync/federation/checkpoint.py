"""A federation between two rounds, as one file: all that the next round needs."""

import io
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import ArrayRecord
from numpy.typing import NDArray
from pydantic import TypeAdapter

from medisync.errors import FederationError
from medisync.federation.messages import arrays_from_state, weights_only
from medisync.schemas import HistoryEntry

_history_schema = TypeAdapter(list[HistoryEntry])


@dataclass(frozen=True)
class Checkpoint:
    """Hospitals keep nothing between rounds and all randomness follows from the seed and the round, so this is enough for
    a federation that goes on from here to end with the same bits as one that was never interrupted.
    """

    arrays: ArrayRecord
    """The global weights after the last round, with Adam's memory where hospitals share it."""
    best: ArrayRecord
    best_round: int = 0
    history: list[HistoryEntry] = field(default_factory=list)
    optimiser: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """What the server's optimiser carries from round to round, by name."""

    @property
    def rounds_done(self) -> int:
        return len(self.history)

    def to_bytes(self) -> bytes:
        """A file of plain tensors and text."""
        improved = self.best_round == self.rounds_done
        buffer = io.BytesIO()
        torch.save(
            {
                "arrays": dict(self.arrays.to_torch_state_dict()),
                "best": {} if improved else dict(weights_only(self.best).to_torch_state_dict()),
                "best_round": self.best_round,
                "history": _history_schema.dump_json(self.history).decode(),
                "optimiser": {name: torch.from_numpy(np.array(array)) for name, array in self.optimiser.items()},
            },
            buffer,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Raises FederationError for anything but what `to_bytes` made; nothing in the file is executed."""
        try:
            stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            arrays = arrays_from_state(stored["arrays"])
            return cls(
                arrays=arrays,
                best=arrays_from_state(stored["best"]) if stored["best"] else arrays,
                best_round=int(stored["best_round"]),
                history=_history_schema.validate_json(stored["history"]),
                optimiser={name: tensor.numpy() for name, tensor in stored["optimiser"].items()},
            )
        except Exception as error:  # torch raises whatever arbitrary bytes lead it to  # noqa: BLE001
            reason = (str(error).splitlines() or ["unknown format"])[0][:120]
            raise FederationError(f"a checkpoint cannot be read ({reason}); begin a new run") from None


class Checkpoints:
    """Where a run's federations leave their checkpoints, by name. This one keeps none."""

    def load(self, name: str) -> Checkpoint | None:  # noqa: ARG002
        return None

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        pass
