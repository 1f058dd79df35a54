"""A networked federation as the server sees it: a run like the notebook's, of hospitals that are elsewhere."""

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
from medisync.network.run_output import COMPLETED, FAILED, SAYS
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
    "copies of one hospital's scans at another cannot be found over a network: the scans never meet",
]


def conduct(grid: Grid, order: Mapping[str, Any]) -> None:
    """Runs the federation that a run configuration asks for (pyproject.toml lists its keys) and keeps it as a run."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    _speak_to_followers()
    try:
        name = _conduct(grid, order)
    except MediSyncError as error:
        print(f"{SAYS}{FAILED}{error}", flush=True)
        raise
    print(f"{SAYS}{COMPLETED}{name}", flush=True)


def _speak_to_followers() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(f"{SAYS}%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _conduct(grid: Grid, order: Mapping[str, Any]) -> str:
    workspace = artifacts.locate(str(order["workspace"]) or None)
    server = settings.read(ServerSettings, Path(str(order["server"])))
    members = server.hospitals
    parameters = {**json.loads(str(order["parameters"])), "RESUME": str(order["resume"])}
    configuration = notebook.configuration(parameters).model_copy(update={"hospitals": tuple(map(_expected, members))})
    flower.send_without_copies()
    flower.keep_deadline(grid, configuration.federation.round_deadline)
    grid = PackingGrid(grid, configuration.federation.transport)
    run = pipeline.begin(workspace, configuration, "over the network")
    with pipeline.failure_logged():
        registration = ClientRegistration(
            grid,
            frozenset(member.name for member in members),
            configuration.federation.min_hospitals,
            configuration.federation.round_deadline,
        )
        registration.gather(server.gathering_seconds)
        _keep_introductions(run.run, registration.introductions, configuration)
        outcome = pipeline.train_networked_federation(run, grid, registration.find_participants)
        described = _described(configuration, registration.introductions)
        stats = _keep_introductions(run.run, registration.introductions, described)
        compared = _uncompared(outcome, stats)
        artifacts.write(run.folder, artifacts.BASELINES, compared)
        synthetic = _is_synthetic(registration.introductions)
        pipeline.publish(replace(run, configuration=described), stats, outcome, compared, synthetic=synthetic)
    return run.name


def _uncompared(outcome: Outcome, stats: Mapping[str, DatasetStats]) -> BaselineRecord:
    """The federated model alone: whatever it could be compared with would need the images in one place."""
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
    """A hospital before it has introduced itself; where its images are and what its folders are called is its own affair."""
    return Hospital(
        name=member.name,
        dataset_id="",
        specialty="",
        location=member.location,
        path=member.name.replace("/", " "),
        class_map={label: label for label in LABELS},
    )


def _described(configuration: Configuration, introductions: Mapping[str, Introduction]) -> Configuration:
    """The configuration with the hospitals that took part, as they introduced themselves."""
    known = ("dataset_id", "specialty", "source", "licence")
    hospitals = tuple(
        each.model_copy(update=introductions[each.name].model_dump(include=set(known)))
        for each in configuration.hospitals
        if each.name in introductions
    )
    return configuration.model_copy(update={"hospitals": hospitals})


def _keep_introductions(
    run: Run, introductions: Mapping[str, Introduction], configuration: Configuration
) -> dict[str, DatasetStats]:
    """The audit, the split and the statistics as far as they may be known here: counts. Returns the statistics."""
    known = dict(sorted(introductions.items()))
    places = {hospital.name: hospital.location for hospital in configuration.hospitals}
    stats = {name: each.stats.model_copy(update={"location": places[name]}) for name, each in known.items()}
    audited = AuditRecord(
        synthetic=_is_synthetic(known),
        hospitals={name: each.audit for name, each in known.items()},
        overlaps=[],
        examples=[],
        conflicts=[],
        images=[],
    )
    ratios = configuration.splits.model_dump(include={"seed", "val_ratio", "test_ratio"})
    nobody = HospitalSplit(train=[], val=[], test=[])
    split = SplitRecord(**ratios, cross_hospital_duplicates="keep", hospitals=dict.fromkeys(known, nobody), notes=NOTES)
    artifacts.write(run.folder, artifacts.AUDIT, audited)
    artifacts.write(run.folder, artifacts.SPLITS, split)
    artifacts.write(run.folder, artifacts.STATS, stats)
    log.info("%s; %s", "; ".join(f"{name}: {each.total} images" for name, each in stats.items()), software())
    return stats
