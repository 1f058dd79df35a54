"""Plain settings for tests that were derived with them, whatever the defaults are: full-size images, no mixup, plain Adam."""

from typing import Any

from medisync.config import FederationConfig, TrainingConfig

TRAINING: dict[str, Any] = {
    "image_size_schedule": "constant",
    "batch_size": 32,
    "steps_per_epoch": 0,
    "learning_rate": 1e-4,
    "learning_rate_schedule": "cosine",
    "local_epochs": 1,
    "adam_moments": "fresh",
    "weight_decay": 0.0,
    "mixup": 0.0,
    "missing_class_prior": 0.3,
    "mirrored_halves": 0.0,
    "drawn_lesions": 0.0,
    "normalisation": "averaged",
}
FEDERATION: dict[str, Any] = {"rounds": 10, "patience": 5, "validate_every": 1, "normalisation": "averaged"}


def training(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{**TRAINING, **changes})


def federation(**changes: Any) -> FederationConfig:
    return FederationConfig(**{**FEDERATION, **changes})
