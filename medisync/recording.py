"""A run from its first line of log to the published model: what the notebook calls between the stages."""

import logging
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from medisync import artifacts, audit, baselines, model, model_card
from medisync.artifacts import Run, Workspace
from medisync.config import Configuration
from medisync.evaluation import mean_of_defined
from medisync.federation import grid
from medisync.federation.progress import ProgressBar
from medisync.federation.server_app import Outcome
from medisync.records import (
    SPLITS,
    AuditRecord,
    BaselineRecord,
    DatasetStats,
    HistoryEntry,
    LabelMap,
    ModelMeta,
    ModelMetrics,
    Progress,
    SplitRecord,
)
from medisync.training import HospitalData

log = logging.getLogger("medisync")

SOFTWARE = ("medisync", "torch", "torchvision", "flwr", "numpy", "pillow", "scikit-learn")
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def begin(workspace: Workspace) -> Run:
    """A new run with its log. Log lines of an earlier run in the same process stay in that run's file."""
    run = artifacts.allocate(workspace)
    for handler in [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(run.log_folder / artifacts.LOG, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.info("%s begins in %s", run.name, run.log_folder.name)
    return run


def keep_audit(run: Run, record: AuditRecord) -> None:
    """The audit on disk and in the log."""
    artifacts.write(run.folder, artifacts.AUDIT, record)
    for line in audit.log_lines(record):
        log.info("%s", line)


def keep_splits(run: Run, split: SplitRecord, stats: Mapping[str, DatasetStats]) -> None:
    """Which image serves for what, and the counts that follow from it."""
    artifacts.write(run.folder, artifacts.SPLITS, split)
    artifacts.write(run.folder, artifacts.STATS, dict(stats))
    for note in split.notes:
        log.info("splits: %s", note)


def federate(run: Run, hospitals: Mapping[str, HospitalData], configuration: Configuration) -> Outcome:
    """The federation, with a progress bar; the history is on disk after every round. A failure is logged."""

    def keep_history(history: list[HistoryEntry]) -> None:
        artifacts.write(run.folder, artifacts.HISTORY, history)

    with _failure_logged(), _progress(run, hospitals, configuration) as bar:
        return grid.simulate(hospitals, configuration, on_round=keep_history, on_images=bar.advance)


def compare(
    run: Run, hospitals: Mapping[str, HospitalData], outcome: Outcome, configuration: Configuration
) -> BaselineRecord:
    """The baselines, with a progress bar; the comparison is on disk and in the log afterwards."""
    with _failure_logged(), _baseline_progress(run, hospitals, configuration) as bar:
        record = baselines.compare(hospitals, outcome, configuration, on_images=bar.advance)
    artifacts.write(run.folder, artifacts.BASELINES, record)
    for each in record.models:
        log.info(
            "%s (%s): test accuracy %.1f %%", each.kind, ", ".join(each.trained_at), 100 * (each.test.accuracy or 0)
        )
    return record


@contextmanager
def _failure_logged() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        log.error("stopped: %s: %s", type(error).__name__, error)
        raise


def _progress(run: Run, hospitals: Mapping[str, HospitalData], configuration: Configuration) -> ProgressBar:
    return _bar(run, configuration, _budget(hospitals.values(), configuration))


def _baseline_progress(run: Run, hospitals: Mapping[str, HospitalData], configuration: Configuration) -> ProgressBar:
    trained = baselines.members(hospitals, configuration.baselines.baselines)
    tested = sum(len(data["test"]) for data in hospitals.values()) * (1 + len(trained))
    budgets = [_budget([hospitals[name] for name in names], configuration) for _, names in trained]
    return _bar(run, configuration, sum(budgets) + tested)


def _budget(hospitals: Collection[HospitalData], configuration: Configuration) -> int:
    """The images that one federation of these hospitals processes if it does not stop early."""
    rounds, epochs = configuration.federation.rounds, configuration.training.local_epochs
    sizes = {split: sum(len(data[split]) for data in hospitals) for split in SPLITS}
    return rounds * (round(epochs * sizes["train"]) + sizes["val"]) + 2 * sizes["val"] + sizes["test"]


def _bar(run: Run, configuration: Configuration, images: int) -> ProgressBar:
    def keep(record: Progress) -> None:
        artifacts.write(run.folder, artifacts.PROGRESS, record)

    return ProgressBar(images, configuration.federation.rounds, keep)


def finish(
    workspace: Workspace,
    run: Run,
    configuration: Configuration,
    stats: Mapping[str, DatasetStats],
    outcome: Outcome,
    compared: BaselineRecord,
    *,
    synthetic: bool,
) -> ModelMeta:
    """Writes the model, what is known about it and its card, completes the run and publishes it to models/."""
    artifacts.write(run.folder, artifacts.HISTORY, outcome.history)
    artifacts.write(run.folder, artifacts.LABEL_MAP, LabelMap())
    artifacts.write_bytes(run.folder / artifacts.MODEL, model.serialise(outcome.state))
    meta = describe(run, configuration, stats, outcome, synthetic=synthetic)
    artifacts.write(run.folder, artifacts.META, meta)
    software = {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}
    card = model_card.write(meta, configuration, software, compared)
    artifacts.write_bytes(run.folder / artifacts.CARD, card.encode())
    artifacts.commit(run, synthetic=synthetic, configuration=configuration, software=software)
    artifacts.publish(workspace, run.name)
    log.info("%s completed: test accuracy %.1f %%", run.name, 100 * meta.metrics.test_accuracy)
    return meta


def describe(
    run: Run, configuration: Configuration, stats: Mapping[str, DatasetStats], outcome: Outcome, *, synthetic: bool
) -> ModelMeta:
    """The model's metadata. Averages run over the classes that the test split has."""
    return ModelMeta(
        trained_at=artifacts.now(),
        num_classes=len(outcome.test.per_class),
        num_epochs=len(outcome.history),
        best_epoch=outcome.best_round,
        device=model.select_device(configuration.training.device).kind,
        datasets=dict(stats),
        metrics=_metrics(outcome),
        run=run.name,
        synthetic=synthetic,
        image_size=configuration.training.image_size,
        calibration=outcome.calibration,
        model_sha256=artifacts.sha256(run.folder / artifacts.MODEL),
    )


def _metrics(outcome: Outcome) -> ModelMetrics:
    tested = [figures for figures in outcome.test.per_class.values() if figures.support]
    return ModelMetrics(
        test_accuracy=outcome.test.accuracy or 0.0,
        avg_f1=mean_of_defined(figures.f1 for figures in tested),
        avg_precision=mean_of_defined(figures.precision for figures in tested),
        avg_recall=mean_of_defined(figures.recall for figures in tested),
        best_val_accuracy=outcome.history[outcome.best_round - 1].val_accuracy or 0.0,
        per_class=outcome.test.per_class,
        confusion_matrix=outcome.test.confusion_matrix,
        test=outcome.test,
        hospitals=outcome.hospitals,
    )
