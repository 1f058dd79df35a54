"""Progress: a bar with the time left, a record for the dashboard, and the number of images yet to process."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from tqdm import tqdm

from medisync.config import Configuration
from medisync.federation import baselines
from medisync.federation.checkpoint import Checkpoint, CheckpointFolder
from medisync.federation.observer import TrainingObserver
from medisync.schemas import SPLITS, Progress
from medisync.training.dataset import HospitalData

SECONDS_BETWEEN_RECORDS = 1.0


class ProgressBar(TrainingObserver):
    """Counts images as hospitals process them.

    `images` is the number that all rounds together will process; early stopping may end before. `publish` receives a
    record at most once a second.
    """

    def __init__(self, images: int, rounds: int, publish: Callable[[Progress], None] = lambda record: None) -> None:
        self._rounds = rounds
        self._publish = publish
        self._published = 0.0
        self._bar = tqdm(
            total=images, unit="images", mininterval=0.5, maxinterval=30, dynamic_ncols=True, smoothing=0.1
        )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def images_processed(self, hospital: str, activity: str, round_number: int, count: int) -> None:
        where = "" if activity == "test" else f"round {round_number}/{self._rounds} "
        self._bar.set_description(f"{where}{hospital}, {activity}", refresh=False)
        self._bar.update(count)
        if time.monotonic() - self._published >= SECONDS_BETWEEN_RECORDS:
            self._published = time.monotonic()
            self._publish(self._record(hospital, activity, round_number))

    def _record(self, hospital: str, activity: str, round_number: int) -> Progress:
        rate = self._bar.format_dict["rate"]
        left = max(0, (self._bar.total or 0) - self._bar.n)
        return Progress(
            stage="evaluation" if activity == "test" else "training",
            round=round_number,
            rounds=self._rounds,
            hospital=hospital,
            images_per_second=rate,
            seconds_left=left / rate if rate else None,
            updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def federation_images(
    hospitals: Collection[HospitalData], configuration: Configuration, done: Checkpoint | None = None
) -> int:
    """Returns the number of images that a federation processes after `done` if it does not stop early."""
    rounds = configuration.federation.rounds - (done.rounds_done if done else 0)
    sizes = {split: sum(len(data[split]) for data in hospitals) for split in SPLITS}
    trained = round(rounds * configuration.training.local_epochs * sizes["train"])
    validations = math.ceil(rounds / configuration.federation.validate_every) + 2
    return trained + validations * sizes["val"] + sizes["test"]


def baseline_images(
    hospitals: Mapping[str, HospitalData], configuration: Configuration, checkpoints: CheckpointFolder
) -> int:
    """Returns the number of images that training and testing the baselines has yet to process."""
    trained = baselines.members(hospitals, configuration.baselines.baselines)
    tested = sum(len(data["test"]) for data in hospitals.values()) * (1 + len(trained))
    budgets = (
        federation_images(
            [hospitals[name] for name in names],
            baselines.settings(configuration, alone=kind != "leave-one-out"),
            checkpoints.load(baselines.checkpoint_name(position)),
        )
        for position, (kind, names) in enumerate(trained, start=1)
    )
    return sum(budgets) + tested
