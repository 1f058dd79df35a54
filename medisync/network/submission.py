"""Starting a run on the server and following it to its end."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medisync import project_files
from medisync.errors import FederationError
from medisync.network import services
from medisync.network.run_output import COMPLETED, FAILED, SAYS
from medisync.network.settings import ServerSettings, to_toml
from medisync.network.superlink import CONNECTION


def run(
    server: ServerSettings, settings_file: Path, workspace: Path, parameters: Mapping[str, Any], resume: str = ""
) -> str:
    """Starts a run on the server's SuperLink, prints its messages, and returns the name of the completed run.

    Raises FederationError with the reason if it does not complete.
    """
    run_config = {
        "server": settings_file,
        "workspace": workspace,
        "parameters": json.dumps(dict(parameters)),
        "resume": resume,
    }
    run_config_file = server.state / "order.toml"
    run_config_file.write_text(to_toml(run_config), encoding="utf-8")
    bundle = _write_bundle(server.state / "app" / "medisync")
    with subprocess.Popen(
        ["flwr", "run", str(bundle), CONNECTION, "--stream", "--run-config", str(run_config_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=services.flower_environment(server.state / "flower"),
    ) as process:
        return _follow(process.stdout or ())


def _write_bundle(folder: Path) -> Path:
    for name in project_files.FLOWER_APP:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_files.ROOT / name, folder / name)
    return folder


def _follow(lines: Iterable[str]) -> str:
    """Prints the run's messages, leaves out Flower's own, and returns the name of the completed run."""
    last = ""
    for line in lines:
        _, found, message = line.rstrip().partition(SAYS)
        if found and message.startswith(COMPLETED):
            return message.removeprefix(COMPLETED)
        if found and message.startswith(FAILED):
            raise FederationError(message.removeprefix(FAILED))
        if found:
            print(message, flush=True)
        last = line.strip() or last
    raise FederationError(
        f"the run ended without a result: {last}; resume it with --resume once the server is running again"
    )
