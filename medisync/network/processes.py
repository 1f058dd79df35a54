"""SuperLink, SuperNodes and Flower's command line as child processes that end with the command that started them."""

import importlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medisync import project_files
from medisync.errors import FederationError
from medisync.network import credentials, flower, settings
from medisync.network.run_output import COMPLETED, FAILED, SAYS
from medisync.network.settings import HospitalSettings, ServerSettings, split_address, to_toml
from medisync.schemas import Introduction

LET_IN, NOT_LET_IN = "SuperNode ID", "Failed to activate SuperNode"
"""What Flower's SuperNode says where the server accepts its key or does not: unknown, or in use by a node that just died."""

REJOIN_SECONDS, REJOIN_PAUSE = 90.0, 5.0
"""How long and how often a hospital asks to be let in: a server takes a minute to notice that a node has died, and some
seconds to know its hospitals after it was started.
"""

START_SECONDS = 90.0
STOP_SECONDS = 10.0
FLOWER = "medisync.network.flower"
PARENT_WATCH = "medisync.parent_watch"
IN_MEMORY = ":flwr-in-memory:"
"""Nothing of a SuperLink needs to outlast it: server.toml says who may connect, and a round cut short is begun anew. In a
database every request would pay for transactions.
"""
CONNECTION = "medisync"
"""What Flower's configuration calls our SuperLink."""


@dataclass(frozen=True)
class Service:
    """A long-running child process and the file that it logs to."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    log_start: int
    """Where its own words begin: the file also holds those of earlier times."""

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """What it has logged."""
        return self.log.read_bytes()[self.log_start :].decode(errors="replace")

    def last_words(self) -> str:
        """The last line of its log that says something."""
        lines = [line.strip() for line in self.said().splitlines()]
        return next((line for line in reversed(lines) if len(line) > 3), "it said nothing")


@contextmanager
def service(
    name: str, module: str, arguments: list[object], home: Path, log: Path, threads: int = 0
) -> Iterator[Service]:
    """Runs `python -m module ...` for as long as the block lasts, on so many threads, or as many as it likes for 0."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", PARENT_WATCH, module, *map(str, arguments)],
            stdin=subprocess.PIPE,  # never written to: its end tells the child that we have gone
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(home) | ({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            start_new_session=True,  # Ctrl-C reaches the command, which then stops its children in order
        )
    try:
        yield Service(name, process, log, log_start)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        with suppress(ProcessLookupError):  # what it started itself would take up to 20 s to notice
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin:
            process.stdin.close()


def _environment(home: Path) -> dict[str, str]:
    """Flower's own state in `home`, its commands found, nothing reported to anyone; a model in few large pieces, and the
    memory for one kept for the next, where each hop would take it from the system and give it back, 11,000 pages a time.
    """
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE": str(16 << 20),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free(address: str) -> None:
    """Raises FederationError where another program listens at `address` already."""
    host, port = split_address(address)
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise FederationError(
            f"{address}: cannot be listened at ({error.strerror}); stop what does, or change `listen` in server.toml"
        ) from None


def require_reachable(address: str, authority: Path) -> None:
    """Raises FederationError where nothing answers at `address`, or something that `authority` does not vouch for."""
    host, port = split_address(address)
    trusted = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            trusted.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        raise FederationError(
            f"{address}: its certificate is not accepted ({error.verify_message}); ask the federation's administrator"
            f" whether {authority.name} is current"
        ) from None
    except OSError as error:
        raise FederationError(
            f"{address}: the server cannot be reached ({error.strerror or error}); is `medisync federation server` running,"
            " and may this machine dial out to it?"
        ) from None


def _wait(started: Service, answers: Any, what: str) -> None:
    """Until `answers()` is true. Raises FederationError where the service ends before, or takes too long."""
    end = time.monotonic() + START_SECONDS
    while not answers():
        if not started.is_alive():
            raise FederationError(f"{started.name} ended: {started.last_words()} (log: {started.log})")
        if time.monotonic() > end:
            raise FederationError(f"{started.name} does not {what} after {START_SECONDS:g} s (log: {started.log})")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def superlink(server: ServerSettings) -> Iterator[Service]:
    """The server's side: a SuperLink with TLS and node authentication, all hospitals registered.

    Raises FederationError for a taken port, ConfigError for a key or certificate that cannot serve.
    """
    credentials.require_private(server.private_key)
    credentials.require_valid(server.authority)
    credentials.require_valid(server.certificate)
    require_free(server.listen)
    host, port = split_address(server.listen)
    home = server.state / "flower"
    home.mkdir(parents=True, exist_ok=True)
    connection = {"address": f"127.0.0.1:{port}", "root-certificates": str(server.authority)}
    (home / "config.toml").write_text(to_toml({"superlink.medisync": connection, "superlink": {"default": CONNECTION}}))
    files = [
        "--ssl-ca-certfile",
        server.authority,
        "--ssl-certfile",
        server.certificate,
        "--ssl-keyfile",
        server.private_key,
    ]
    options = ["--database", IN_MEMORY, "--isolation", "subprocess", "--enable-supernode-auth"]
    arguments = [
        "superlink",
        "--host",
        host,
        "--port",
        port,
        *files,
        *options,
        "--disable-runtime-dependency-installation",
    ]
    with service("the server", FLOWER, arguments, home, server.state / "server.log") as link:
        _wait(link, lambda: _answers(port), "listen")
        register(server)
        yield link


def register(server: ServerSettings) -> None:
    """Makes a SuperLink that has just started know the names and keys in server.toml. Raises FederationError where it refuses
    one.
    """
    for member in server.hospitals:
        options = ["--name", member.name, f"--location={member.location.lat},{member.location.lon}"]
        ask_flower(server, "supernode", "register", str(member.public_key), CONNECTION, *options, "--format", "json")


def ask_flower(server: ServerSettings, *arguments: str) -> dict[str, Any]:
    """Flower's own command line, on the SuperLink of `server`, and what it answers."""
    done = subprocess.run(
        ["flwr", *arguments], capture_output=True, text=True, env=_environment(server.state / "flower"), check=False
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"success": False, "error-message": (done.stdout + done.stderr).strip()}
    if not answer.get("success"):
        raise FederationError(f"Flower refused `{' '.join(arguments[:2])}`: {answer.get('error-message', done.stderr)}")
    return answer


@contextmanager
def supernode(hospital: HospitalSettings, settings_file: Path) -> Iterator[tuple[Service, str, bytes]]:
    """A hospital's SuperNode, which dials out to the server; with the address and the secret of its runtime, for
    `flower.serve_node`. Only this machine reaches the runtime, and only who knows the secret gets work from it.
    """
    port, secret, secret_file = free_port(), secrets.token_bytes(32), hospital.state / "runtime.secret"
    secret_file.unlink(missing_ok=True)
    credentials.write_private(secret_file, secret)
    arguments = [
        *("supernode", "--superlink", hospital.server, "--root-certificates", hospital.authority),
        *("--auth-supernode-private-key", hospital.private_key, "--isolation", "process"),
        *("--host", "127.0.0.1", "--port", port, "--superexec-auth-secret-file", secret_file),
        *("--node-config", f'hospital="{settings_file}"'),
    ]
    log = hospital.state / "hospital.log"
    with service("the node", FLOWER, arguments, hospital.state / "flower", log) as started:
        _wait(started, lambda: NOT_LET_IN in started.said() or LET_IN in started.said(), "reach the server")
        yield started, f"127.0.0.1:{port}", secret


def take_part(settings_file: Path) -> None:
    """A hospital's side, until it is stopped: its images prepared, its node connected, a process that answers messages.

    Raises FederationError where the server cannot be reached or does not let it in, DataError for unusable images.
    """
    from medisync.network import node  # torch, which the server's side does without

    hospital = settings.read(HospitalSettings, settings_file)
    credentials.require_private(hospital.private_key)
    credentials.require_valid(hospital.authority)
    require_reachable(hospital.server, hospital.authority)
    introduction = node.prepare(hospital)
    importlib.import_module("medisync.network.apps")  # what the client process needs, before it is forked
    patience = time.monotonic() + REJOIN_SECONDS
    while time.monotonic() < patience:
        if _serve(hospital, settings_file, introduction):
            print(f"{hospital.name}: the server was started again, or ended; connecting to it", flush=True)
            patience = time.monotonic() + REJOIN_SECONDS
        else:
            print(f"{hospital.name}: not let in yet; trying again", flush=True)
        time.sleep(REJOIN_PAUSE)
    raise FederationError(
        f"{hospital.server}: the server does not know this hospital's key ({hospital.private_key.name}); ask the"
        " federation's administrator which key is registered for it"
    )


def _serve(hospital: HospitalSettings, settings_file: Path, introduction: Introduction) -> bool:
    """Whether the server let the node in, once that has ended: a server that was started again knows nobody of before."""
    with supernode(hospital, settings_file) as (connection, address, secret):
        if NOT_LET_IN in connection.said():
            return False
        print(f"{hospital.name}: {introduction.stats.total} images, connected to {hospital.server}", flush=True)
        flower.serve_node(address, secret, connection.process.wait)
        return True


def run(
    server: ServerSettings, settings_file: Path, workspace: Path, parameters: Mapping[str, Any], resume: str = ""
) -> str:
    """Starts a run on the server's SuperLink, prints what it says, and returns the name of the completed run.

    Raises FederationError with the reason where it does not complete.
    """
    bundle = server.state / "app" / "medisync"
    for name in project_files.FLOWER_APP:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_files.ROOT / name, bundle / name)
    order = {
        "server": settings_file,
        "workspace": workspace,
        "parameters": json.dumps(dict(parameters)),
        "resume": resume,
    }
    order_file = server.state / "order.toml"
    order_file.write_text(to_toml(order), encoding="utf-8")
    command = ["flwr", "run", str(bundle), CONNECTION, "--stream", "--run-config", str(order_file)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(server.state / "flower"),
    ) as process:
        return _follow(process)


def _follow(process: "subprocess.Popen[str]") -> str:
    """Prints what the run says to people; the rest is Flower's."""
    last = ""
    for line in process.stdout or ():
        _, found, said = line.rstrip().partition(SAYS)
        if found and said.startswith(COMPLETED):
            return said.removeprefix(COMPLETED)
        if found and said.startswith(FAILED):
            raise FederationError(said.removeprefix(FAILED))
        if found:
            print(said, flush=True)
        last = line.strip() or last
    raise FederationError(f"the run ended without a result: {last}; go on with --resume once the server is back")
