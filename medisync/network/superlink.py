"""The server's side: Flower's SuperLink with TLS and node authentication, and Flower's command line for it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medisync.errors import FederationError
from medisync.network import credentials, services
from medisync.network.addresses import join_address, split_address
from medisync.network.services import Service
from medisync.network.settings import ServerSettings, to_toml

IN_MEMORY = ":flwr-in-memory:"
"""A SuperLink keeps nothing on disk: server.toml says who may connect, and an interrupted round starts again. With a
database, a transaction for every one of 130 requests cost 2 core seconds a round.
"""
CONNECTION = "medisync"
"""The name of our SuperLink in Flower's configuration."""


@contextmanager
def superlink(server: ServerSettings) -> Iterator[Service]:
    """Runs a SuperLink for the duration of the block, with all hospitals of server.toml registered.

    Raises FederationError for a port in use or a key that the SuperLink refuses, ConfigError for an unusable key or
    certificate.
    """
    credentials.require_private(server.private_key)
    credentials.require_valid(server.authority)
    credentials.require_valid(server.certificate)
    services.require_free(server.listen)
    host, port = split_address(server.listen)
    own = "::1" if ":" in host else "127.0.0.1"
    home = server.state / "flower"
    home.mkdir(parents=True, exist_ok=True)
    connection = {"address": join_address(own, port), "root-certificates": server.authority}
    flower_settings = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
    (home / "config.toml").write_text(to_toml(flower_settings), encoding="utf-8")
    log = server.state / "server.log"
    with services.service("the server", services.FLOWER, _arguments(server), home, log) as link:
        services.wait_until(lambda: services.listens(port, own), link, "listen")
        _register(server)
        yield link


def _arguments(server: ServerSettings) -> list[object]:
    host, port = split_address(server.listen)
    return [
        *("superlink", "--host", host, "--port", port),
        *("--ssl-ca-certfile", server.authority),
        *("--ssl-certfile", server.certificate),
        *("--ssl-keyfile", server.private_key),
        *("--database", IN_MEMORY, "--isolation", "subprocess"),
        *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
    ]


def _register(server: ServerSettings) -> None:
    """Registers the names and keys in server.toml. Raises FederationError if the SuperLink refuses one."""
    for member in server.hospitals:
        options = ["--name", member.name, f"--location={member.location.lat},{member.location.lon}"]
        ask_flower(server, "supernode", "register", str(member.public_key), CONNECTION, *options, "--format", "json")


def ask_flower(server: ServerSettings, *arguments: str) -> dict[str, Any]:
    """Returns the answer of Flower's command line on the server's SuperLink. Raises FederationError if it fails."""
    environment = services.flower_environment(server.state / "flower")
    done = subprocess.run(["flwr", *arguments], capture_output=True, text=True, env=environment, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"success": False, "error-message": (done.stdout + done.stderr).strip()}
    if not answer.get("success"):
        raise FederationError(f"Flower refused `{' '.join(arguments[:2])}`: {answer.get('error-message', done.stderr)}")
    return answer
