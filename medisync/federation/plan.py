"""The plan of a federation: each round's instructions and requirements, as they follow from the configuration."""

from dataclasses import dataclass

from medisync.config import FederationConfig, TrainingConfig
from medisync.federation.messages import Participants, TrainInstructions
from medisync.training.schedules import scheduled_rate, scheduled_size, uses_weak_labels
from medisync.training.seeds import derive_seed

MOMENTS_EVERY = 4
"""With the transport "compact", second moments are handed on after every so many rounds: they are means over a thousand
steps."""

EARLY_ROUNDS = 4 * MOMENTS_EVERY
"""Rounds after all of which second moments are handed on, because they change quickly at first."""


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
    compact: bool = False
    """Whether hospitals are sent the rounded change since the last round."""
    moment_rounds: int = 1
    """Rounds since second moments were last handed on, including this one; 0 if they are not handed on in this round."""


@dataclass(frozen=True)
class FederationPlan:
    """The plan of all rounds: how hospitals train, and how their updates are aggregated."""

    training: TrainingConfig
    federation: FederationConfig

    def plan_round(self, number: int, participants: Participants) -> RoundPlan:
        """Returns the plan of round `number`, counted from 1."""
        training, federation = self.training, self.federation
        rate = scheduled_rate(training.learning_rate, training.learning_rate_schedule, number, federation.rounds)
        size = scheduled_size(training, number, federation.rounds)
        moment_rounds = self._moment_rounds(number)
        return RoundPlan(
            number=number,
            participants=participants,
            instructions=TrainInstructions(
                training,
                rate,
                size,
                weak_labels=uses_weak_labels(training, number, federation.rounds),
                hand_on_moments=moment_rounds > 0,
            ),
            min_hospitals=federation.min_hospitals,
            deadline=federation.round_deadline,
            server_learning_rate=self._server_rate(number),
            sampling_seed=derive_seed(federation.seed, "participants", number),
            validates=self.is_validated(number),
            compact=federation.transport == "compact",
            moment_rounds=moment_rounds,
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

    def _moment_rounds(self, number: int) -> int:
        """Returns the rounds that second moments handed on after round `number` cover; 0 if they are not handed on."""
        if self.training.adam_moments == "fresh":
            return 0
        if self.federation.transport != "compact" or number <= EARLY_ROUNDS:
            return 1
        return 0 if number % MOMENTS_EVERY else MOMENTS_EVERY

    def _server_rate(self, number: int) -> float:
        config = self.federation
        return scheduled_rate(config.server_learning_rate, config.server_learning_rate_schedule, number, config.rounds)
