"""A run from its first line of log to the published model: what the notebook calls between the stages."""

import logging
import math
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from flwr.serverapp import Grid

from medisync.config import Configuration
from medisync.data import audit
from medisync.errors import ArtifactError, ConfigError, DataError, printable
from medisync.evaluation.metrics import mean_of_defined
from medisync.federation import baselines, server_app, simulation
from medisync.federation.checkpoint import Checkpoint, Checkpoints
from medisync.federation.progress import ProgressBar
from medisync.federation.server_app import Outcome
from medisync.model import local_batchnorm
from medisync.model.device import select_device
from medisync.model.weights import serialise
from medisync.reporting import model_card
from medisync.schemas import (
    SPLITS,
    AuditRecord,
    BaselineRecord,
    DatasetStats,
    LabelMap,
    ModelMeta,
    ModelMetrics,
    Progress,
    RunStart,
    SplitRecord,
    StoredModel,
    Transport,
)
from medisync.training.dataset import HospitalData
from medisync.workspace import artifacts, publishing
from medisync.workspace.artifacts import Run, Workspace
from medisync.workspace.atomic import write_bytes

log = logging.getLogger("medisync")

SOFTWARE = ("medisync", "torch", "torchvision", "flwr", "numpy", "pillow")
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def begin(workspace: Workspace, configuration: Configuration) -> Run:
    """A new run with its log, or the interrupted one that RESUME names. It is this process's until it is finished.

    Raises ConfigError where RESUME names a run that was begun with another configuration, ArtifactError where there is
    no such run, or another process works on it.
    """
    publishing.tidy(workspace)
    if configuration.run.resume:
        run, start = artifacts.reopen(workspace, configuration.run.resume)
        _require_same(start.configuration, configuration.to_record(), run.name)
        _claim(run)
    else:
        run = artifacts.allocate(workspace)
        _claim(run)
        start = RunStart(started_at=run.started_at, log=run.log_folder.name, configuration=configuration.to_record())
        artifacts.write(run.folder, artifacts.START, start)
    _log_to(run.log_folder / artifacts.LOG)
    log.info("%s %s in %s", run.name, "goes on" if configuration.run.resume else "begins", run.log_folder.name)
    return run


_claimed: list[FileLock] = []
"""The lock of the run that this process works on."""

TIDYING_SECONDS = 1.0
"""For how long another process may hold a run's lock that only looks whether somebody works on it."""


def _claim(run: Run) -> None:
    while _claimed:
        _claimed.pop().release()
    lock = FileLock(run.folder / artifacts.LOCK, timeout=TIDYING_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(f"another process works on {run.name}; wait for it, or stop it first") from None
    _claimed.append(lock)


def _release(run: Run) -> None:
    while _claimed:
        _claimed.pop().release()
    (run.folder / artifacts.LOCK).unlink(missing_ok=True)


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    for section, values in now.items():
        if section == "hospitals" and before.get(section) != values:
            raise ConfigError(f"RESUME: HOSPITAL_CONFIGS or DATASETS are not what they were when {name} began")
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if (was := before.get(section, {}).get(key)) != value:
                raise ConfigError(f"RESUME: {name} was begun with {key.upper()} = {was!r}, now it is {value!r}")


class _OneLine(logging.Formatter):
    """What a hospital answers cannot make up a line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _log_to(file: Path) -> None:
    """Log lines of an earlier run in the same process stay in that run's file."""
    for handler in [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(_OneLine(LOG_FORMAT))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def keep_audit(run: Run, record: AuditRecord) -> None:
    """The audit on disk and in the log."""
    artifacts.write(run.folder, artifacts.AUDIT, record)
    for line in audit.log_lines(record):
        log.info("%s", line)


def keep_splits(run: Run, split: SplitRecord, stats: Mapping[str, DatasetStats]) -> None:
    """Which image serves for what, and the counts that follow from it.

    Raises DataError where a resumed run would train on other images than it began with.
    """
    if (run.folder / artifacts.SPLITS).exists() and artifacts.read(run.folder, artifacts.SPLITS) != split:
        raise DataError(f"the dataset is not what it was when {run.name} began; begin a new run")
    artifacts.write(run.folder, artifacts.SPLITS, split)
    artifacts.write(run.folder, artifacts.STATS, dict(stats))
    for note in split.notes:
        log.info("splits: %s", note)


class _CheckpointFolder(Checkpoints):
    """A run's checkpoints on disk."""

    def __init__(self, run: Run) -> None:
        self._folder = run.folder / artifacts.CHECKPOINTS

    def load(self, name: str) -> Checkpoint | None:
        file = self._folder / f"{name}.pth"
        return Checkpoint.from_bytes(file.read_bytes()) if file.exists() else None

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        write_bytes(self._folder / f"{name}.pth", checkpoint.to_bytes())


FEDERATED = "federated"


def federate(run: Run, hospitals: Mapping[str, HospitalData], configuration: Configuration) -> Outcome:
    """The federation, with a progress bar; weights and history are on disk after every round. A failure is logged.

    Goes on after the last whole round where the run was interrupted before.
    """
    checkpoints = _CheckpointFolder(run)

    def keep(state: Checkpoint) -> None:
        checkpoints.save(FEDERATED, state)
        artifacts.write(run.folder, artifacts.HISTORY, state.history)

    with failure_logged(), _progress(run, hospitals, configuration, checkpoints) as bar:
        resumed = checkpoints.load(FEDERATED)
        return simulation.simulate(hospitals, configuration, resumed=resumed, on_round=keep, on_images=bar.advance)


def federate_over_network(
    run: Run, network: Grid, find_participants: server_app.FindParticipants, configuration: Configuration
) -> Outcome:
    """The same with hospitals that are elsewhere, whose images nobody here counts: progress is told by rounds."""
    checkpoints, rounds = _CheckpointFolder(run), configuration.federation.rounds

    def keep(state: Checkpoint) -> None:
        checkpoints.save(FEDERATED, state)
        artifacts.write(run.folder, artifacts.HISTORY, state.history)
        left = (rounds - state.rounds_done) * state.history[-1].seconds
        done = Progress(
            stage="training", round=state.rounds_done, rounds=rounds, seconds_left=left, updated_at=artifacts.now()
        )
        artifacts.write(run.folder, artifacts.PROGRESS, done)

    settings = configuration.training, configuration.federation
    resumed = checkpoints.load(FEDERATED)
    return server_app.federate(network, find_participants, *settings, on_round=keep, resumed=resumed)


def compare(
    run: Run, hospitals: Mapping[str, HospitalData], outcome: Outcome, configuration: Configuration
) -> BaselineRecord:
    """The baselines, with a progress bar; the comparison and the hospitals' own models are on disk afterwards."""
    checkpoints = _CheckpointFolder(run)

    def keep(place: int, trained: baselines.Model) -> StoredModel | None:
        names = artifacts.local_files(place)
        return _store(run, names, trained.outcome, configuration) if trained.kind == "local" else None

    with failure_logged(), _baseline_progress(run, hospitals, configuration, checkpoints) as bar:
        record = baselines.compare(
            hospitals, outcome, configuration, checkpoints=checkpoints, on_images=bar.advance, on_model=keep
        )
    artifacts.write(run.folder, artifacts.BASELINES, record)
    for each in record.models:
        log.info(
            "%s (%s): test accuracy %.1f %%", each.kind, ", ".join(each.trained_at), 100 * (each.test.accuracy or 0)
        )
    return record


@contextmanager
def failure_logged() -> Iterator[None]:
    """What ends a run stands in its log."""
    try:
        yield
    except BaseException as error:
        log.error("stopped: %s: %s", type(error).__name__, error)
        raise


def _progress(
    run: Run, hospitals: Mapping[str, HospitalData], configuration: Configuration, checkpoints: Checkpoints
) -> ProgressBar:
    return _bar(run, configuration, _budget(hospitals.values(), configuration, checkpoints.load(FEDERATED)))


def _baseline_progress(
    run: Run, hospitals: Mapping[str, HospitalData], configuration: Configuration, checkpoints: Checkpoints
) -> ProgressBar:
    trained = baselines.members(hospitals, configuration.baselines.baselines)
    tested = sum(len(data["test"]) for data in hospitals.values()) * (1 + len(trained))
    budgets = [
        _budget(
            [hospitals[name] for name in names],
            baselines.settings(configuration, alone=kind != "leave-one-out"),
            checkpoints.load(baselines.checkpoint_name(place)),
        )
        for place, (kind, names) in enumerate(trained, start=1)
    ]
    return _bar(run, configuration, sum(budgets) + tested)


def _budget(hospitals: Collection[HospitalData], configuration: Configuration, done: Checkpoint | None) -> int:
    """The images that a federation of these hospitals has yet to process if it does not stop early."""
    rounds = configuration.federation.rounds - (done.rounds_done if done else 0)
    sizes = {split: sum(len(data[split]) for data in hospitals) for split in SPLITS}
    trained = round(rounds * configuration.training.local_epochs * sizes["train"])
    validations = math.ceil(rounds / configuration.federation.validate_every) + 2
    return trained + validations * sizes["val"] + sizes["test"]


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
    compared: BaselineRecord | None,
    *,
    synthetic: bool,
    transport: Transport = "in one process",
) -> ModelMeta:
    """Writes the model, what is known about it and its card, completes the run and publishes it to models/."""
    artifacts.write(run.folder, artifacts.HISTORY, outcome.history)
    artifacts.write(run.folder, artifacts.LABEL_MAP, LabelMap())
    stored = _store(run, (artifacts.MODEL, artifacts.DISTRIBUTION), outcome, configuration)
    stored = _store_statistics(run, stored, outcome)
    meta = _describe(run, configuration, stats, outcome, stored, synthetic=synthetic)
    artifacts.write(run.folder, artifacts.META, meta)
    software = {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}
    card = model_card.write(meta, configuration, software, compared, transport)
    write_bytes(run.folder / artifacts.CARD, card.encode())
    record = configuration.to_record()
    artifacts.commit(run, synthetic=synthetic, configuration=record, software=software, transport=transport)
    _release(run)
    publishing.publish(workspace, run.name)
    log.info("%s completed: test accuracy %.1f %%", run.name, 100 * meta.metrics.test_accuracy)
    return meta


def _store(run: Run, names: tuple[str, str], outcome: Outcome, configuration: Configuration) -> StoredModel:
    """Writes the weights and the feature distribution of a model under these names."""
    weights, distribution = (run.folder / name for name in names)
    write_bytes(weights, serialise(outcome.state))
    write_bytes(distribution, outcome.distribution.to_bytes())
    return StoredModel(
        image_size=configuration.training.image_size,
        calibration=outcome.calibration,
        model_sha256=artifacts.sha256(weights),
        distribution_sha256=artifacts.sha256(distribution),
    )


def _store_statistics(run: Run, stored: StoredModel, outcome: Outcome) -> StoredModel:
    """Beside the global model, where hospitals have their own."""
    if not outcome.statistics:
        return stored
    file = run.folder / artifacts.STATISTICS
    write_bytes(file, local_batchnorm.to_bytes(outcome.statistics))
    about = {"statistics_sha256": artifacts.sha256(file), "statistics_of": sorted(outcome.statistics)}
    return stored.model_copy(update=about)


def _describe(
    run: Run,
    configuration: Configuration,
    stats: Mapping[str, DatasetStats],
    outcome: Outcome,
    stored: StoredModel,
    *,
    synthetic: bool,
) -> ModelMeta:
    """The model's metadata. Averages run over the classes that the test split has."""
    return ModelMeta(
        trained_at=artifacts.now(),
        num_classes=len(outcome.test.per_class),
        num_epochs=len(outcome.history),
        best_epoch=outcome.best_round,
        device=select_device(configuration.training.device).kind,
        datasets=dict(stats),
        metrics=_metrics(outcome),
        run=run.name,
        synthetic=synthetic,
        **dict(stored),
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
