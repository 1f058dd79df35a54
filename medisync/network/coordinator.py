"""The server's side of a networked run, which leaves the same files as the notebook's run."""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from medisync import notebook, pipeline
from medisync.config import Configuration, Hospital
from medisync.errors import MediSyncError
from medisync.federation.codec import PackingGrid
from medisync.federation.registration import ClientRegistration
from medisync.federation.server_app import Outcome
from medisync.network import flower, settings
from medisync.network.recording import AccountableGrid
from medisync.network.run_output import COMPLETED, FAILED, SAYS
from medisync.network.run_request import RunRequest
from medisync.network.settings import Member, ServerSettings
from medisync.schemas import (
    LABELS,
    AuditRecord,
    BaselineModel,
    BaselineRecord,
    DatasetStats,
    HospitalSplit,
    Introduction,
    SplitRecord,
)
from medisync.version import software
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Run

log = logging.getLogger("medisync")

NOTES = [
    "each hospital keeps the list of its own images",
    "copies across hospitals cannot be found over a network, because no scan leaves its hospital",
]

WITHOUT_EXTERNAL = (
    "external datasets are not evaluated in a federation over a network, where nobody can tell whether a hospital has"
    " their scans; use `medisync evaluate`"
)


def run_federation(grid: Grid, run_config: Mapping[str, Any]) -> None:
    """Runs the federation that `run_config` describes (keys: pyproject.toml) and prints the result for followers."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    _print_log_for_followers()
    try:
        name = _federate(grid, run_config)
    except MediSyncError as error:
        print(f"{SAYS}{FAILED}{error}", flush=True)
        raise
    print(f"{SAYS}{COMPLETED}{name}", flush=True)


def _print_log_for_followers() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(f"{SAYS}%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _federate(grid: Grid, run_config: Mapping[str, Any]) -> str:
    """Runs the federation and returns the name of the completed run."""
    workspace = artifacts.locate(str(run_config["workspace"]) or None)
    server = settings.read(ServerSettings, Path(str(run_config["server"])))
    configuration = configure(server, run_config)
    flower.send_without_copies()
    flower.keep_deadline(grid, configuration.federation.round_deadline)
    run = pipeline.begin(workspace, configuration, "over the network")
    request = RunRequest(run=run.name, training=configuration.training, federation=configuration.federation)
    grid = AccountableGrid(PackingGrid(grid, configuration.federation.transport), request, server.state / "seals")
    with pipeline.failure_logged():
        registration = ClientRegistration(
            grid,
            frozenset(member.name for member in server.hospitals),
            configuration.federation.min_hospitals,
            configuration.federation.round_deadline,
        )
        registration.gather(server.gathering_seconds)
        _save_introductions(run.run, registration.introductions, configuration)
        outcome = pipeline.train_networked_federation(run, grid, registration.find_participants)
        described = _described(configuration, registration.introductions)
        stats = _save_introductions(run.run, registration.introductions, described)
        compared = _without_baselines(outcome, stats)
        artifacts.write(run.folder, artifacts.BASELINES, compared)
        synthetic = _is_synthetic(registration.introductions)
        attacked = pipeline.record_not_attacked(run, sorted(stats))
        run = replace(run, configuration=described)
        pipeline.publish(run, stats, outcome, compared, attacked=attacked, synthetic=synthetic)
    return run.name


def configure(server: ServerSettings, run_config: Mapping[str, Any]) -> Configuration:
    """Returns the notebook's configuration with the run's parameters and the hospitals of server.toml."""
    parameters = {**json.loads(str(run_config["parameters"])), "RESUME": str(run_config["resume"])}
    hospitals = tuple(map(_expected, server.hospitals))
    configuration = notebook.configuration(parameters)
    if configuration.external:
        log.warning("%s", WITHOUT_EXTERNAL)
    return configuration.model_copy(update={"hospitals": hospitals, "external": ()})


def _without_baselines(outcome: Outcome, stats: Mapping[str, DatasetStats]) -> BaselineRecord:
    """Returns a comparison with the federated model alone: every baseline would need the images on one machine."""
    federated = BaselineModel(
        kind="federated",
        trained_at=sorted(stats),
        best_round=outcome.best_round,
        test=outcome.test,
        hospitals=outcome.hospitals,
    )
    return BaselineRecord(models=[federated], differences=[])


def _is_synthetic(introductions: Mapping[str, Introduction]) -> bool:
    return any(each.synthetic for each in introductions.values())


def _expected(member: Member) -> Hospital:
    """Returns a hospital as server.toml describes it; the server does not learn its folders, so they are stand-ins."""
    return Hospital(
        name=member.name,
        dataset_id="",
        specialty="",
        location=member.location,
        path=member.name.replace("/", " "),
        class_map={label: label for label in LABELS},
    )


def _described(configuration: Configuration, introductions: Mapping[str, Introduction]) -> Configuration:
    """Returns the configuration with the hospitals that took part, as they introduced themselves."""
    known = ("dataset_id", "specialty", "source", "licence")
    hospitals = tuple(
        each.model_copy(update=introductions[each.name].model_dump(include=set(known)))
        for each in configuration.hospitals
        if each.name in introductions
    )
    return configuration.model_copy(update={"hospitals": hospitals})


def _save_introductions(
    run: Run, introductions: Mapping[str, Introduction], configuration: Configuration
) -> dict[str, DatasetStats]:
    """Writes the counts that the server may know of audit and split, and returns the dataset statistics."""
    known = dict(sorted(introductions.items()))
    locations = {hospital.name: hospital.location for hospital in configuration.hospitals}
    stats = {name: each.stats.model_copy(update={"location": locations[name]}) for name, each in known.items()}
    audited = AuditRecord(
        synthetic=_is_synthetic(known),
        hospitals={name: each.audit for name, each in known.items()},
        overlaps=[],
        examples=[],
        conflicts=[],
        images=[],
    )
    ratios = configuration.splits.model_dump(include={"seed", "val_ratio", "test_ratio"})
    no_images = HospitalSplit(train=[], val=[], test=[])
    split = SplitRecord(
        **ratios, cross_hospital_duplicates="keep", hospitals=dict.fromkeys(known, no_images), notes=NOTES
    )
    artifacts.write(run.folder, artifacts.AUDIT, audited)
    artifacts.write(run.folder, artifacts.SPLITS, split)
    artifacts.write(run.folder, artifacts.STATS, stats)
    log.info("%s; %s", "; ".join(f"{name}: {each.total} images" for name, each in stats.items()), software())
    return stats
