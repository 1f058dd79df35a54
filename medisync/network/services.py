"""Long-running child processes that end with the command that started them, and checks of addresses."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medisync.errors import FederationError
from medisync.network.addresses import split_address

START_SECONDS = 90.0
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.1
FLOWER = "medisync.network.flower"
PARENT_WATCH = "medisync.parent_watch"


@dataclass(frozen=True)
class Service:
    """A long-running child process and its log file."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    log_start: int
    """Offset of its own output in the log file, which also holds the output of earlier processes."""

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """Returns what it has logged so far."""
        return self.log.read_bytes()[self.log_start :].decode(errors="replace")

    def last_line(self) -> str:
        """Returns the last line of its output that carries information."""
        lines = [line.strip() for line in self.output().splitlines()]
        return next((line for line in reversed(lines) if len(line) > 3), "no output")


@contextmanager
def service(
    name: str, module: str, arguments: list[object], home: Path, log: Path, threads: int = 0
) -> Iterator[Service]:
    """Runs `python -m module ...` for the duration of the block, on `threads` threads (0: as many as it likes).

    `home` is the folder for Flower's own files; output is appended to `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", PARENT_WATCH, module, *map(str, arguments)],
            stdin=subprocess.PIPE,  # never written to: its end tells the child that this process has gone
            stdout=output,
            stderr=subprocess.STDOUT,
            env=flower_environment(home) | ({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops its children in order
        )
    try:
        yield Service(name, process, log, log_start)
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Stops a child process and everything that it started: politely first, then by SIGKILL."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # its own children would notice up to 20 s later
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin:
        process.stdin.close()


def flower_environment(home: Path) -> dict[str, str]:
    """Returns the environment for Flower's processes: state in `home`, its commands on the path, no telemetry.

    glibc keeps freed memory for the next model; otherwise each hop takes 11,000 pages from the system and returns them.
    """
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }


def wait_until(condition: Callable[[], bool], started: Service, goal: str) -> None:
    """Waits until `condition()` holds; `goal` completes "the service did not ..." in the error.

    Raises FederationError if the service ends before that, or takes longer than START_SECONDS.
    """
    end = time.monotonic() + START_SECONDS
    while not condition():
        if not started.is_alive():
            raise FederationError(f"{started.name} ended: {started.last_line()} (log: {started.log})")
        if time.monotonic() > end:
            raise FederationError(f"{started.name} did not {goal} within {START_SECONDS:g} s (log: {started.log})")
        time.sleep(LOOK_SECONDS)


def free_port() -> int:
    """Returns a TCP port on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Returns whether a program on this machine accepts connections at `port`."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def require_free(address: str) -> None:
    """Raises FederationError if another program already listens at `address`."""
    host, port = split_address(address)
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise FederationError(
            f"{address}: cannot listen there ({error.strerror}); stop the program that does,"
            " or change `listen` in server.toml"
        ) from None


def require_reachable(address: str, authority: Path) -> None:
    """Raises FederationError if nothing answers at `address`, or `authority` did not issue its certificate."""
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
            f"{address}: the server cannot be reached ({error.strerror or error}); check that"
            " `medisync federation server` is running and that this machine may connect to it"
        ) from None
