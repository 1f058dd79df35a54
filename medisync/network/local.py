"""A networked federation on one machine, for trying: a server and one process tree per hospital of a workspace."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from medisync import notebook
from medisync.data import audit, splits
from medisync.network import processes, settings, setup
from medisync.network.settings import ServerSettings
from medisync.network.setup import Made
from medisync.workspace.artifacts import Workspace


def run(workspace: Workspace, parameters: Mapping[str, Any], resume: str = "") -> str:
    """Starts everything, runs one federation over TLS with keys made for it, and stops everything. Returns the run's name.

    The images are split as the notebook splits them, and each hospital is told its own part: that one machine holds all
    of them is what lets copies across hospitals be found. So the run equals the notebook's with the same parameters.
    """
    with tempfile.TemporaryDirectory(prefix="medisync-") as name, ExitStack() as running:
        made = prepare(Path(name), workspace, parameters)
        server = settings.read(ServerSettings, made.server)
        running.enter_context(processes.superlink(server))
        threads = max(1, (os.cpu_count() or 1) // len(made.hospitals))  # more would wait for each other
        for hospital, file in made.hospitals.items():
            arguments: list[object] = ["federation", "hospital", file]
            log = file.parent / "log"
            home = file.parent / "flower"
            running.enter_context(processes.service(hospital, "medisync", arguments, home, log, threads))
        return processes.run(server, made.server, workspace.root, parameters, resume)


def prepare(folder: Path, workspace: Workspace, parameters: Mapping[str, Any]) -> Made:
    """Keys, settings and the split of a workspace's hospitals, in `folder`."""
    configuration = notebook.configuration(parameters)
    audited = audit.audit_hospitals(configuration.hospitals, workspace.dataset, workspace.cache)
    audit.require_images(audited, configuration.hospitals, workspace.dataset)
    split = splits.split(audited, configuration.splits, configuration.hospitals)
    address = f"127.0.0.1:{processes.free_port()}"
    made = setup.make(folder, address, configuration.hospitals, workspace.dataset)
    for name, file in made.hospitals.items():
        (file.parent / "split.json").write_text(split.hospitals[name].model_dump_json(), encoding="utf-8")
        file.write_text('split_file = "split.json"\n' + file.read_text(encoding="utf-8"), encoding="utf-8")
        (file.parent / "state").mkdir()
        workspace.cache.mkdir(exist_ok=True)
        (file.parent / "state" / "cache").symlink_to(workspace.cache)
    return made
