"""Where a federation stands: one bar per round with the time left, and a record for the dashboard."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from tqdm import tqdm

from medisync.schemas import Progress

SECONDS_BETWEEN_RECORDS = 1.0


class ProgressBar:
    """Counts images as hospitals work through them; pass `advance` as a client app's `on_images`.

    `images` is what all rounds together will process; early stopping may end before. `publish` receives a record at most
    once a second.
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

    def advance(self, hospital: str, activity: str, round_number: int, images: int) -> None:
        where = "" if activity == "test" else f"round {round_number}/{self._rounds} "
        self._bar.set_description(f"{where}{hospital}, {activity}", refresh=False)
        self._bar.update(images)
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
