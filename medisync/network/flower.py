"""Flower's SuperLink and SuperNode with the changes that Flower offers no option for; see also `worker`.

The inner names are those of flwr 1.41; any other version is refused. Each change is here for security or for a measured
figure (benchmarks/network.md and its history). Seconds are those of a round of three hospitals with next to nothing to
train: 6.5 s, of which 5.9 s are the network's part.

- Security: `HospitalsOnly`. A SuperLink answers hospitals, administrators and its own processes at one port and asks
  administrators for no proof, so that any hospital could start a run.
- Measured: the processes that a SuperLink starts stay in its process group; otherwise they outlive it by up to 20 s.
- Measured: a frozen hospital holds a round up until ROUND_DEADLINE, not for Flower's two hours (`keep_deadline`).
- Measured: shorter pauses between two looks for work (0.5 s instead of 3 s) and for parts of a message (0.1 to 0.5 s
  instead of 1, 2, 4, up to 10 s). The latter, at the server alone, took the network's part from 5.7 to 5.4 s. Pauses of
  0.1 s cost more than they save, 8.4 instead of 7.9 s a round: a look takes both sides some 10 ms.
- Measured: requests are sent without copying the rest of their body after every 16 kB (`send_without_copies`). The
  network's part of a round was 7.9 s before and 5.7 s after.

Run as `python -m medisync.network.flower superlink|supernode ...` with the options of Flower's own commands.
"""

import functools
import importlib
import os
import sys
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

# read when flwr is imported, also in a command that an administrator starts
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import Message
from flwr.serverapp import Grid
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medisync.federation.flower_version import require_checked

IDLE_SECONDS = 0.5
"""Pause between two looks for work."""

OWN_MACHINE = ("127.0.0.1", "::1")
HOSPITALS_PATH = "/v1/fleet/"


class HospitalsOnly:
    """Refuses requests from other machines, except those of hospitals, which their keys guard."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_allowed(scope):
            refusal = PlainTextResponse("only the server's own machine may request this", status_code=403)
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _is_allowed(scope: Scope) -> bool:
    peer = (scope.get("client") or ("",))[0]
    return peer in OWN_MACHINE or str(scope["path"]).startswith(HOSPITALS_PATH)


def superlink() -> None:
    """Runs Flower's SuperLink behind `HospitalsOnly`; its child processes stay in its process group."""
    from flwr.superlink import extensions

    module = importlib.import_module("flwr.superlink.cli.flower_superlink")  # a function of the same name hides it
    vars(extensions)["get_middleware"] = lambda: (Middleware(HospitalsOnly),)
    vars(module)["get_popen_detach_kwargs"] = dict
    module.flower_superlink()


def supernode() -> None:
    """Runs Flower's SuperNode, which looks for work every `IDLE_SECONDS`."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    def sleep(seconds: float) -> None:
        """Shorter pauses are between looks at its own memory, which cost nothing."""
        time.sleep(IDLE_SECONDS if seconds > IDLE_SECONDS else seconds / 10)

    with_short_sleep: Any = SimpleNamespace(sleep=sleep)
    vars(start_client_internal)["time"] = with_short_sleep
    look_for_parts_soon()
    send_without_copies()
    flower_supernode()


def keep_deadline(grid: Grid, seconds: float) -> None:
    """Makes `grid` give up on the missing parts of a reply `seconds` after the messages were sent.

    Flower waits two hours for the parts of a reply that a hospital has announced, for example before it froze.
    """
    push, pull, end = grid.push_messages, grid.pull_messages, time.monotonic()

    def push_messages(messages: Iterable[Message]) -> Iterable[str]:
        nonlocal end
        names = list(push(messages))
        end = time.monotonic() + seconds
        return names

    def pull_messages(message_ids: Iterable[str]) -> Iterable[Message]:
        look_for_parts_soon(max_seconds=max(0.0, end - time.monotonic()))
        return list(pull(message_ids))

    vars(grid).update(push_messages=push_messages, pull_messages=pull_messages)


def look_for_parts_soon(max_seconds: float | None = None) -> None:
    """Shortens the pauses between two looks for a part of a message that is still on its way.

    Gives up after `max_seconds`; None means never.
    """
    from flwr.supercore.inflatable.inflatable_utils import pull_objects

    soon = {"initial_backoff": IDLE_SECONDS / 5, "backoff_cap": IDLE_SECONDS, "max_tries_per_object": None}
    pull_objects.__kwdefaults__ = {**(pull_objects.__kwdefaults__ or {}), **soon, "max_time": max_seconds}


@functools.cache  # once in a process
def send_without_copies() -> None:
    """Makes httpcore send a view of a request's body; it would copy what is left after each TLS record of 16 kB.

    16 MB were copied 512 times over: https://github.com/encode/httpcore/issues/1029.
    """
    from httpcore._backends.sync import SyncStream

    write: Any = SyncStream.write

    def write_view(self: SyncStream, buffer: bytes, timeout: float | None = None) -> None:
        write(self, memoryview(buffer), timeout)

    SyncStream.write = write_view  # type: ignore[method-assign]


def main() -> None:
    require_checked()
    {"superlink": superlink, "supernode": supernode}[sys.argv.pop(1)]()


if __name__ == "__main__":
    main()
