"""Progress: the number of images that a run has yet to process, counted by hand."""

from pathlib import Path

import recipes
from fakes import SETTINGS, hospital
from flwr.app import ArrayRecord

from medisync import notebook
from medisync.config import Configuration
from medisync.federation.checkpoint import Checkpoint, CheckpointFolder
from medisync.federation.progress import ProgressBar, baseline_images, federation_images
from medisync.schemas import HistoryEntry, Progress

TWO = {"North": hospital(0), "South": hospital(10)}
ENTRY = HistoryEntry(
    epoch=1, learning_rate=0.1, seconds=1, hospitals={}, train_loss=1, train_accuracy=1, val_loss=1, val_accuracy=1
)


def test_the_images_of_a_federation_by_hand() -> None:
    # 3 rounds of 2 * 16 training images; validation after rounds 2 and 3 and twice for calibration; then the test
    federation = recipes.federation(rounds=3, validate_every=2)
    configuration = Configuration.model_construct(training=SETTINGS, federation=federation)
    assert federation_images(TWO.values(), configuration) == 3 * 32 + (2 + 2) * 16 + 16
    done = Checkpoint(ArrayRecord(), ArrayRecord(), history=[ENTRY, ENTRY])
    assert federation_images(TWO.values(), configuration, done) == 1 * 32 + (1 + 2) * 16 + 16


def test_the_images_of_the_baselines_by_hand(tmp_path: Path) -> None:
    # a pool of both for 1 round: 32 training images, 1 + 2 validations of 16, a test of 16; two models tested on 16
    parameters = {"ROUNDS": 1, "LOCAL_EPOCHS": 1, "VALIDATE_EVERY": 1, "BASELINES": ["pooled"], "ADAM_MOMENTS": "fresh"}
    configuration = notebook.configuration(parameters)
    assert baseline_images(TWO, configuration, CheckpointFolder(tmp_path)) == 32 + 3 * 16 + 16 + 2 * 16


def test_a_bar_publishes_where_training_is() -> None:
    published: list[Progress] = []
    with ProgressBar(100, rounds=3, publish=published.append) as bar:
        bar.images_processed("North", "training", 2, 10)
        bar.images_processed("North", "training", 2, 10)  # within the same second: not published
    (record,) = published
    assert (record.stage, record.round, record.rounds, record.hospital) == ("training", 2, 3, "North")
