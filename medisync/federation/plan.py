"""The plan of a federation: each round's instructions and requirements, as they follow from the configuration."""

from dataclasses import dataclass

from medisync.config import FederationConfig, TrainingConfig
from medisync.federation.messages import Participants, TrainInstructions
from medisync.training.schedules import scheduled_rate, scheduled_size, uses_weak_labels
from medisync.training.seeds import derive_seed


@dataclass(frozen=True)
class RoundPlan:
    """The plan of one round: its participants, their instructions, and the conditions under which it succeeds."""

    number: int
    """From 1."""
    participants: Participants
    instructions: TrainInstructions
    min_hospitals: int
    """Number of usable updates without which the round fails."""
    deadline: float
    """Seconds that a hospital may take for a reply."""
    server_learning_rate: float
    """Learning rate of the server's optimiser, for strategies that have one."""
    sampling_seed: int
    """Seed of the draw of the hospitals that train."""
    validates: bool = True


@dataclass(frozen=True)
class FederationPlan:
    """The plan of all rounds: how hospitals train, and how their updates are aggregated."""

    training: TrainingConfig
    federation: FederationConfig

    def plan_round(self, number: int, participants: Participants) -> RoundPlan:
        """Returns the plan of round `number`, counted from 1."""
        training, federation = self.training, self.federation
        rate = scheduled_rate(training.learning_rate, training.learning_rate_schedule, number, federation.rounds)
        return RoundPlan(
            number=number,
            participants=participants,
            instructions=TrainInstructions(
                training,
                rate,
                scheduled_size(training, number, federation.rounds),
                weak_labels=uses_weak_labels(training, number, federation.rounds),
            ),
            min_hospitals=federation.min_hospitals,
            deadline=federation.round_deadline,
            server_learning_rate=self._server_rate(number),
            sampling_seed=derive_seed(federation.seed, "participants", number),
            validates=self.is_validated(number),
        )

    def is_validated(self, number: int) -> bool:
        """Returns whether the global model is validated after round `number`; after the last it always is."""
        return number % self.federation.validate_every == 0 or number == self.federation.rounds

    def may_stop_early(self, number: int, best_round: int) -> bool:
        """Returns whether patience runs out after round `number`: only after a validated round with images of full size."""
        return (
            number - best_round >= self.federation.patience
            and self.is_validated(number)
            and scheduled_size(self.training, number, self.federation.rounds) >= self.training.image_size
        )

    def _server_rate(self, number: int) -> float:
        config = self.federation
        return scheduled_rate(config.server_learning_rate, config.server_learning_rate_schedule, number, config.rounds)
