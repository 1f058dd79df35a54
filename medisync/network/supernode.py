"""A hospital's side: Flower's SuperNode, which connects to the server, and taking part until stopped."""

import importlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medisync.errors import FederationError
from medisync.network import credentials, services, settings, worker
from medisync.network.policy import FILE, Policy, beside
from medisync.network.services import Service
from medisync.network.settings import HospitalSettings
from medisync.schemas import Introduction

LET_IN, NOT_LET_IN = "SuperNode ID", "Failed to activate SuperNode"
"""Log lines of a SuperNode when the server accepts its key, or refuses it: unknown, or in use by a node that just died."""

REJOIN_SECONDS, REJOIN_PAUSE = 90.0, 5.0
"""Seconds for which, and intervals at which, a hospital asks to be let in: a server takes a minute to notice that a node
has died, and some seconds after its start to know its hospitals.
"""


@dataclass(frozen=True)
class SuperNode:
    """A running SuperNode, with the address of its runtime and the secret that the runtime asks for."""

    service: Service
    runtime_address: str
    secret: bytes

    def was_refused(self) -> bool:
        return NOT_LET_IN in self.service.output()

    def has_an_answer(self) -> bool:
        return self.was_refused() or LET_IN in self.service.output()


@contextmanager
def supernode(hospital: HospitalSettings, settings_file: Path) -> Iterator[SuperNode]:
    """Runs a SuperNode that connects to the server, for the duration of the block.

    Its runtime is private: it listens on this machine only, and only who knows the secret gets messages from it.
    """
    port, secret, secret_file = services.free_port(), secrets.token_bytes(32), hospital.state / "runtime.secret"
    secret_file.unlink(missing_ok=True)
    credentials.write_private(secret_file, secret)
    arguments = [
        *("supernode", "--superlink", hospital.server, "--root-certificates", hospital.authority),
        *("--auth-supernode-private-key", hospital.private_key, "--isolation", "process"),
        *("--host", "127.0.0.1", "--port", port, "--superexec-auth-secret-file", secret_file),
        *("--node-config", f'hospital="{settings_file}"'),
    ]
    home, log = hospital.state / "flower", hospital.state / "hospital.log"
    with services.service("the node", services.FLOWER, arguments, home, log) as started:
        running = SuperNode(started, f"127.0.0.1:{port}", secret)
        services.wait_until(running.has_an_answer, started, "reach the server")
        yield running


def take_part(settings_file: Path) -> None:
    """Takes part in the federation as one hospital until stopped; connects again after the server was restarted.

    Raises FederationError if the server cannot be reached or refuses the hospital, DataError for unusable images.
    """
    from medisync.network import node  # imports torch, which the server's side does without

    hospital = settings.read(HospitalSettings, settings_file)
    print(f"{hospital.name}: {_describe(settings.read_policy(settings_file), settings_file)}", flush=True)
    credentials.require_private(hospital.private_key)
    credentials.require_valid(hospital.authority)
    services.require_reachable(hospital.server, hospital.authority)
    introduction = node.prepare(hospital)
    os.environ["FLWR_HOME"] = str(hospital.state / "flower")  # a service's home folder may be read-only
    importlib.import_module("medisync.network.apps")  # the forked worker needs it
    patience = time.monotonic() + REJOIN_SECONDS
    while time.monotonic() < patience:
        if _serve(hospital, settings_file, introduction):
            print(f"{hospital.name}: lost the connection to the server; connecting again", flush=True)
            patience = time.monotonic() + REJOIN_SECONDS
        else:
            print(f"{hospital.name}: not let in yet; trying again", flush=True)
        time.sleep(REJOIN_PAUSE)
    raise FederationError(
        f"{hospital.server}: the server does not know this hospital's key ({hospital.private_key.name}); ask the"
        " federation's administrator which key is registered for it"
    )


def _describe(policy: Policy, settings_file: Path) -> str:
    """Returns where the rules of this hospital stand, and whether runs wait for a person."""
    rules = (
        f"its rules are in {FILE}" if beside(settings_file).exists() else f"has no {FILE}, the strict defaults apply"
    )
    return f"{rules}; {'each run waits for approval' if policy.participation.approval else 'runs need no approval'}"


def _serve(hospital: HospitalSettings, settings_file: Path, introduction: Introduction) -> bool:
    """Answers the server's messages until its node ends, and returns whether the server had let the node in.

    The node ends when the server was restarted, because that server does not know the nodes of the one before.
    """
    with supernode(hospital, settings_file) as running:
        if running.was_refused():
            return False
        print(f"{hospital.name}: {introduction.stats.total} images, connected to {hospital.server}", flush=True)
        worker.serve(running.runtime_address, running.secret, running.service.is_alive)
        return True
