"""The statement with which the server asks hospitals for a run: sent with every message, and what a hospital approves."""

import hashlib
from typing import Annotated

from flwr.app import ConfigRecord, RecordDict
from pydantic import Field, ValidationError

from medisync.config import FederationConfig, Section, TrainingConfig
from medisync.errors import UpdateError

REQUEST = "request"
"""Name of the record that holds the statement."""


class RunRequest(Section):
    """What a run is going to ask of a hospital."""

    run: Annotated[str, Field(pattern=r"^run-\d{3,9}$")]
    """The run's name at the server; a resumed run has the same."""
    training: TrainingConfig
    federation: FederationConfig
    epsilon: Annotated[float, Field(gt=0)] | None = None
    """The privacy loss that the run states for each hospital; None without differential privacy."""

    @property
    def name(self) -> str:
        """SHA-256 of the whole statement; an approval is bound to it, and so are the counts."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def short_name(self) -> str:
        """The beginning of the name, for people."""
        return self.name[:12]

    @property
    def recipe(self) -> str:
        """SHA-256 of the training settings."""
        return hashlib.sha256(self.training.model_dump_json().encode()).hexdigest()

    def to_record(self) -> ConfigRecord:
        return ConfigRecord({"json": self.model_dump_json()})


def read(content: RecordDict) -> RunRequest:
    """Returns the statement in a message. Raises UpdateError if there is none that can be read."""
    try:
        return RunRequest.model_validate_json(str(content.config_records[REQUEST]["json"]))
    except KeyError:
        raise UpdateError("the message does not say which run it belongs to") from None
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise UpdateError(f"the statement of the run cannot be read (field {field or 'json'})") from None


def summarise(request: RunRequest) -> str:
    """Returns what a run asks for, in lines for the person who approves it."""
    training, federation = request.training, request.federation
    scale = f"images of {training.image_size} pixels, {training.local_epochs:g} epochs a round"
    epsilon = (
        "no differential privacy"
        if request.epsilon is None
        else f"epsilon {request.epsilon:g}, as the server states; this version adds no noise that would hold it"
    )
    statistics = "" if training.normalisation == "group" else f"; BatchNorm statistics ({training.normalisation})"
    return "\n".join(
        [
            f"{request.short_name}: {request.run} at the server",
            f"  trains {federation.rounds} rounds with {federation.strategy}, {scale}",
            f"  recipe {request.recipe}",
            f"  every round: trained weights, a number of images, mean loss and accuracy{statistics}",
            f"  every {federation.validate_every} rounds: mean loss and accuracy on the validation images",
            "  at the end: sums over validation and test images, sums of features of the training images",
            f"  privacy: {epsilon}",
        ]
    )
