"""A networked federation on one machine, to try it: a server and one process tree per hospital of a workspace."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from medisync import notebook
from medisync.config import Strategy
from medisync.data import audit, splits
from medisync.network import services, settings, setup, submission
from medisync.network.policy import beside
from medisync.network.settings import ServerSettings
from medisync.network.setup import FederationFiles
from medisync.network.superlink import superlink
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace

TRIAL: Mapping[str, Any] = {
    "recipe": {"strategies": list(get_args(Strategy)), "most_local_epochs": 100.0, "largest_image_size": 1024},
    "limits": dict.fromkeys(
        ("rounds_per_run", "rounds_per_week", "evaluations_per_run", "evaluations_per_week"), 1_000_000
    ),
    "participation": {"fewest_images": 0, "fewest_patients": 0, "approval": False},
    "release": {"smallest_count": 1, "batchnorm_statistics": True},
}
"""Policy of the hospitals of a trial: the person who runs it owns all of their images, and asks nobody."""


def run(workspace: Workspace, parameters: Mapping[str, Any], resume: str = "") -> str:
    """Starts server and hospitals, runs one federation over TLS, stops them, and returns the run's name.

    Keys are made for this run. One machine holds all images here, so they are split as the notebook splits them, with
    copies across hospitals found, and each hospital is given its own part of the split. So the run equals the
    notebook's with the same parameters.
    """
    with tempfile.TemporaryDirectory(prefix="medisync-") as name, ExitStack() as running:
        made = prepare(Path(name), workspace, parameters)
        server = settings.read(ServerSettings, made.server)
        running.enter_context(superlink(server))
        threads = max(1, (os.cpu_count() or 1) // len(made.hospitals))  # more threads would wait for each other
        for hospital, file in made.hospitals.items():
            arguments: list[object] = ["federation", "hospital", file]
            log = file.parent / "log"
            home = file.parent / "flower"
            running.enter_context(services.service(hospital, "medisync", arguments, home, log, threads))
        return submission.run(server, made.server, workspace.root, parameters, resume)


def prepare(folder: Path, workspace: Workspace, parameters: Mapping[str, Any]) -> FederationFiles:
    """Writes keys, settings and the split of a workspace's hospitals to `folder`."""
    configuration = notebook.configuration(parameters)
    artifacts.require_dataset(workspace)
    audited = audit.audit_hospitals(configuration.hospitals, workspace.dataset, workspace.cache)
    print(audit.brief(audited), flush=True)
    audit.require_images(audited, configuration.hospitals, workspace.dataset)
    split = splits.split(audited, configuration.splits, configuration.hospitals)
    address = f"127.0.0.1:{services.free_port()}"
    made = setup.make(folder, address, configuration.hospitals, workspace.dataset)
    for name, file in made.hospitals.items():
        (file.parent / "split.json").write_text(split.hospitals[name].model_dump_json(), encoding="utf-8")
        file.write_text('split_file = "split.json"\n' + file.read_text(encoding="utf-8"), encoding="utf-8")
        beside(file).write_text(settings.to_toml(TRIAL), encoding="utf-8")
        (file.parent / "state").mkdir()
        workspace.cache.mkdir(exist_ok=True)
        (file.parent / "state" / "cache").symlink_to(workspace.cache)
    return made
