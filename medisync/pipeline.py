"""The pipeline: a run from the first line of its log to the published model, one call for each step of the notebook."""

import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from medisync.config import Configuration
from medisync.data import audit, external_audit
from medisync.errors import ConfigError, DataError
from medisync.evaluation.metrics import mean_of_defined
from medisync.federation import baselines, external_evaluation, membership_attack, server_app, simulation
from medisync.federation.checkpoint import Checkpoint, CheckpointFolder
from medisync.federation.observer import CheckpointSaver, Observers, TrainingObserver
from medisync.federation.plan import FederationPlan
from medisync.federation.progress import ProgressBar, baseline_images, federation_images
from medisync.federation.server_app import FindParticipants, Outcome
from medisync.model import local_batchnorm
from medisync.model.device import describe_device, select_device
from medisync.model.resnet import load_weights
from medisync.model.weights import State, serialise
from medisync.reporting import model_card
from medisync.schemas import (
    LABELS,
    AuditRecord,
    BaselineRecord,
    DatasetStats,
    ExternalAudit,
    ExternalEvaluation,
    Label,
    LabelMap,
    MembershipRecord,
    ModelMeta,
    ModelMetrics,
    Progress,
    RunStart,
    SplitRecord,
    StoredModel,
    Transport,
)
from medisync.training.dataset import HospitalData, open_external
from medisync.workspace import artifacts, publishing, run_lock, run_log
from medisync.workspace.artifacts import Run, Workspace
from medisync.workspace.atomic import write_bytes

log = logging.getLogger("medisync")

SOFTWARE = ("medisync", "torch", "torchvision", "flwr", "numpy", "pillow")

FEDERATED = "federated"
"""Name of the federation's checkpoint."""


@dataclass(frozen=True)
class RunContext:
    """A run in progress: where it is, what it was configured to do, and how its hospitals are reached."""

    workspace: Workspace
    run: Run
    configuration: Configuration
    transport: Transport = "in one process"

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def folder(self) -> Path:
        return self.run.folder

    @property
    def checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.folder / artifacts.CHECKPOINTS)

    def write_progress(self, record: Progress) -> None:
        artifacts.write(self.folder, artifacts.PROGRESS, record)


def begin(workspace: Workspace, configuration: Configuration, transport: Transport = "in one process") -> RunContext:
    """Begins a new run, or resumes the interrupted one that RESUME names; it is this process's until it is published.

    Raises ConfigError if the run to resume was begun with another configuration, ArtifactError if there is no such run
    or another process works on it, DataError, before anything is written, in a folder without dataset/.
    """
    if transport == "in one process":  # a networked run's images are at the hospitals
        artifacts.require_dataset(workspace)
    publishing.tidy(workspace)
    resumed = configuration.run.resume
    run = _resume(workspace, configuration) if resumed else _begin_new(workspace, configuration)
    run_log.write_to(run.log_folder / artifacts.LOG)
    log.info("%s %s in %s", run.name, "is resumed" if resumed else "begins", run.log_folder.name)
    return RunContext(workspace, run, configuration, transport)


def describe(run: RunContext) -> str:
    """Returns the run's name and what it computes on: "run-001 on CPU, 2 threads, bfloat16"."""
    return f"{run.name} on {describe_device(select_device(run.configuration.training.device))}"


def _begin_new(workspace: Workspace, configuration: Configuration) -> Run:
    run = artifacts.allocate(workspace)
    run_lock.claim(run)
    start = RunStart(started_at=run.started_at, log=run.log_folder.name, configuration=configuration.to_record())
    artifacts.write(run.folder, artifacts.START, start)
    return run


def _resume(workspace: Workspace, configuration: Configuration) -> Run:
    run, start = artifacts.reopen(workspace, configuration.run.resume)
    _require_same(start.configuration, configuration.to_record(), run.name)
    run_lock.claim(run)
    return run


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    for section, values in now.items():
        if section in ("hospitals", "external") and before.get(section, []) != values:
            raise ConfigError(f"RESUME: HOSPITAL_CONFIGS or DATASETS are not what they were when {name} began")
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if (was := before.get(section, {}).get(key)) != value:
                raise ConfigError(f"RESUME: {name} was begun with {key.upper()} = {was!r}, now it is {value!r}")


def record_audit(run: RunContext, record: AuditRecord) -> None:
    """Writes the audit to the run's folder and to its log."""
    artifacts.write(run.folder, artifacts.AUDIT, record)
    for line in audit.log_lines(record):
        log.info("%s", line)
    for line in audit.warnings(record):
        log.warning("%s", line)


def record_splits(run: RunContext, split: SplitRecord, stats: Mapping[str, DatasetStats]) -> None:
    """Writes which image is in which split, and the counts that follow from it.

    Raises DataError if a resumed run would train on other images than it began with.
    """
    if (run.folder / artifacts.SPLITS).exists() and artifacts.read(run.folder, artifacts.SPLITS) != split:
        raise DataError(f"the dataset is not what it was when {run.name} began; begin a new run")
    artifacts.write(run.folder, artifacts.SPLITS, split)
    artifacts.write(run.folder, artifacts.STATS, dict(stats))
    for note in split.notes:
        log.info("splits: %s", note)


class _HistoryWriter(TrainingObserver):
    """Writes the history so far after every validated round."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    def round_validated(self, checkpoint: Checkpoint) -> None:
        artifacts.write(self._run.folder, artifacts.HISTORY, checkpoint.history)


class _RoundProgress(TrainingObserver):
    """Writes progress by rounds, for hospitals elsewhere, whose images nobody counts here."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    def round_validated(self, checkpoint: Checkpoint) -> None:
        done, rounds = checkpoint.rounds_done, self._run.configuration.federation.rounds
        left = (rounds - done) * checkpoint.history[-1].seconds
        self._run.write_progress(
            Progress(stage="training", round=done, rounds=rounds, seconds_left=left, updated_at=artifacts.now())
        )


def _saving(run: RunContext, progress: TrainingObserver) -> TrainingObserver:
    return Observers(CheckpointSaver(run.checkpoints, FEDERATED), _HistoryWriter(run), progress)


def train_federation(run: RunContext, hospitals: Mapping[str, HospitalData]) -> Outcome:
    """Trains the federation in this process, with a progress bar; checkpoint and history are written as it goes.

    An interrupted run continues after its last checkpoint. A failure is logged.
    """
    resumed = run.checkpoints.load(FEDERATED)
    images = federation_images(hospitals.values(), run.configuration, resumed)
    with failure_logged(), _progress_bar(run, images) as bar:
        log.info("%s", describe(run))
        return simulation.simulate(hospitals, run.configuration, resumed=resumed, observer=_saving(run, bar))


def train_networked_federation(run: RunContext, network: Grid, find_participants: FindParticipants) -> Outcome:
    """Trains the federation with hospitals that are elsewhere; otherwise like `train_federation`."""
    plan = FederationPlan(run.configuration.training, run.configuration.federation)
    observer, resumed = _saving(run, _RoundProgress(run)), run.checkpoints.load(FEDERATED)
    return server_app.federate(network, find_participants, plan, observer=observer, resumed=resumed)


def compare_baselines(run: RunContext, hospitals: Mapping[str, HospitalData], outcome: Outcome) -> BaselineRecord:
    """Trains and tests the baselines, with a progress bar; writes the comparison and the hospitals' own models."""
    checkpoints = run.checkpoints
    with failure_logged(), _progress_bar(run, baseline_images(hospitals, run.configuration, checkpoints)) as bar:
        comparison = baselines.compare(hospitals, outcome, run.configuration, checkpoints=checkpoints, observer=bar)
        record = _store_local_models(run, comparison)
    artifacts.write(run.folder, artifacts.BASELINES, record)
    for each in record.models:
        accuracy = 100 * (each.test.accuracy or 0)
        log.info("%s (%s): test accuracy %.1f %%", each.kind, ", ".join(each.trained_at), accuracy)
    return record


def _store_local_models(run: RunContext, comparison: baselines.Comparison) -> BaselineRecord:
    """Writes the hospitals' own models; the returned record says where they are."""
    described = [
        each.model_copy(
            update={"stored": _store(run, artifacts.local_files(position), trained.outcome, trained.hospitals)}
        )
        if trained.kind == "local"
        else each
        for position, (each, trained) in enumerate(zip(comparison.record.models, comparison.models, strict=True))
    ]
    return comparison.record.model_copy(update={"models": described})


def attack_membership(
    run: RunContext, hospitals: Mapping[str, HospitalData], outcome: Outcome, compared: BaselineRecord
) -> MembershipRecord:
    """Attacks the global model: can scans that it was trained on be told from others? With a progress bar; writes the figures.

    The hospitals' own models, where `compared` has them, are references for the images of the other hospitals.
    """
    references, config = _local_weights(run, compared), run.configuration.training
    states = {name: outcome.state_at(name) for name in hospitals}
    with (
        failure_logged(),
        _progress_bar(run, membership_attack.images_to_predict(hospitals, references)) as bar,
    ):

        def report(hospital: str, count: int) -> None:
            bar.images_processed(hospital, "test", outcome.best_round, count)

        record = membership_attack.attack(hospitals, states, references, config, report)
    return _record_membership(run, record)


def record_not_attacked(run: RunContext, hospitals: Sequence[str]) -> MembershipRecord:
    """Writes that the images of these hospitals, which are elsewhere, could not be attacked."""
    refused = dict.fromkeys(sorted(hospitals), membership_attack.NETWORKED)
    return _record_membership(run, MembershipRecord(not_attacked=refused))


def _record_membership(run: RunContext, record: MembershipRecord) -> MembershipRecord:
    artifacts.write(run.folder, artifacts.MEMBERSHIP, record)
    log.info("membership inference, area under the ROC curve: %s", membership_attack.describe(record))
    return record


def _local_weights(run: RunContext, compared: BaselineRecord) -> dict[str, State]:
    """Returns the weights of the hospitals' own models, by hospital."""
    return {
        each.trained_at[0]: load_weights(
            run.folder / artifacts.local_files(position)[0], sha256=each.stored.model_sha256
        )
        for position, each in enumerate(compared.models)
        if each.kind == "local" and each.stored
    }


def evaluate_external(run: RunContext, record: AuditRecord, outcome: Outcome) -> dict[str, ExternalEvaluation]:
    """Evaluates the global model on every external dataset, once, after everything is fitted and the test split was read.

    Writes the figures and returns them by the datasets' ids; none, and no file, if DATASETS has no external dataset.
    """
    found = {name: _evaluate_external(run, name, dataset, outcome) for name, dataset in record.external.items()}
    if found:
        artifacts.write(run.folder, artifacts.EXTERNAL, found)
    for name, each in found.items():
        log.info("external dataset %s: %s", name, external_evaluation.describe(each))
    return found


def _evaluate_external(run: RunContext, name: str, record: ExternalAudit, outcome: Outcome) -> ExternalEvaluation:
    config = run.configuration.training
    with failure_logged():
        images = open_external(record, run.workspace.dataset, config.image_size, run.workspace.cache)
        with _progress_bar(run, len(images)) as bar:
            report = partial(bar.images_processed, name, "test", outcome.best_round)
            figures = external_evaluation.evaluate(images, outcome, config, report)
    return ExternalEvaluation(
        **dict(figures),
        source=record.source,
        licence=record.licence,
        folders=external_audit.evaluated_folders(record),
        excluded=record.excluded,
    )


@contextmanager
def failure_logged() -> Iterator[None]:
    """Logs the error that ends a run."""
    try:
        yield
    except BaseException as error:
        log.error("stopped: %s: %s", type(error).__name__, error)
        raise


def _progress_bar(run: RunContext, images: int) -> ProgressBar:
    return ProgressBar(images, run.configuration.federation.rounds, run.write_progress)


def publish(
    run: RunContext,
    stats: Mapping[str, DatasetStats],
    outcome: Outcome,
    compared: BaselineRecord | None,
    external: Mapping[str, ExternalEvaluation] | None = None,
    attacked: MembershipRecord | None = None,
    *,
    synthetic: bool,
) -> ModelMeta:
    """Writes the model, its metadata and its card, completes the run and publishes the model to models/."""
    artifacts.write(run.folder, artifacts.HISTORY, outcome.history)
    artifacts.write(run.folder, artifacts.LABEL_MAP, LabelMap())
    files = artifacts.MODEL, artifacts.DISTRIBUTION
    stored = _store_statistics(run, _store(run, files, outcome, sorted(stats)), outcome)
    meta = _metadata(run, stats, outcome, stored, synthetic=synthetic)
    artifacts.write(run.folder, artifacts.META, meta)
    software = {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}
    card = model_card.write(meta, run.configuration, software, compared, run.transport, external, attacked)
    write_bytes(run.folder / artifacts.CARD, card.encode())
    record = run.configuration.to_record()
    artifacts.commit(run.run, synthetic=synthetic, configuration=record, software=software, transport=run.transport)
    run_lock.release(run.run)
    publishing.publish(run.workspace, run.name)
    log.info("%s completed: test accuracy %.1f %%", run.name, 100 * meta.metrics.test_accuracy)
    return meta


def _store(run: RunContext, names: tuple[str, str], outcome: Outcome, hospitals: Sequence[str]) -> StoredModel:
    """Writes the weights and the feature distribution of a model of these hospitals under these names."""
    weights, distribution = (run.folder / name for name in names)
    write_bytes(weights, serialise(outcome.state))
    write_bytes(distribution, outcome.distribution.to_bytes())
    return StoredModel(
        image_size=run.configuration.training.image_size,
        calibration=outcome.calibration,
        calibration_elsewhere=outcome.calibration_elsewhere,
        hospital_priors=_hospital_priors(run, hospitals),
        model_sha256=artifacts.sha256(weights),
        distribution_sha256=artifacts.sha256(distribution),
    )


def _hospital_priors(run: RunContext, hospitals: Sequence[str]) -> dict[str, dict[Label, float]]:
    """Returns the prior of each class at each hospital, as `missing_class_adjustment` has it; none if it is always 1."""
    prior = run.configuration.training.missing_class_prior
    if prior == 1:
        return {}
    counts = {name: stats.splits["train"] for name, stats in artifacts.read(run.folder, artifacts.STATS).items()}
    return {name: {label: 1.0 if counts[name].get(label) else prior for label in LABELS} for name in hospitals}


def _store_statistics(run: RunContext, stored: StoredModel, outcome: Outcome) -> StoredModel:
    """Writes the hospitals' own running statistics beside the global model, if they have them."""
    if not outcome.statistics:
        return stored
    file = run.folder / artifacts.STATISTICS
    write_bytes(file, local_batchnorm.serialise_statistics(outcome.statistics))
    about = {"statistics_sha256": artifacts.sha256(file), "statistics_of": sorted(outcome.statistics)}
    return stored.model_copy(update=about)


def _metadata(
    run: RunContext, stats: Mapping[str, DatasetStats], outcome: Outcome, stored: StoredModel, *, synthetic: bool
) -> ModelMeta:
    """Returns the model's metadata; its averages are over the classes that occur in the test split."""
    return ModelMeta(
        trained_at=artifacts.now(),
        num_classes=len(outcome.test.per_class),
        num_epochs=len(outcome.history),
        best_epoch=outcome.best_round,
        device=select_device(run.configuration.training.device).kind,
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
        test_elsewhere=outcome.test_elsewhere,
        histograms=outcome.histograms,
    )
