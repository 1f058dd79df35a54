"""What is not Flower's public API but needed to run it well, read in flwr 1.41 and refused for any other version.

- SuperLink answers hospitals, administrators and its own processes at one port, and asks administrators for no proof. Here
  only its own machine reaches anything but the hospitals' part, which is guarded by their keys.
- A SuperNode starts a fresh process for every message, which would import torch for seconds and set its kernels up anew. Here
  one process, forked from one that has imported all, answers one message after the other.
- A SuperNode without work looks for some every 3 seconds, and who waits for a part of a message looks after 1, 2, 4 seconds.
  Here they look more often, but not so often that looking takes the time: a look costs both sides some 10 ms.
- Flower's HTTP client copies all that is left of a request after every 16 kB that TLS takes of it. Here it does not.

Run as `python -m medisync.network.flower superlink|supernode ...` with the options of Flower's own commands.
"""

import functools
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, Pipe
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import Message
from flwr.serverapp import Grid
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medisync import parent_watch
from medisync.federation.flower_version import require_checked

IDLE_SECONDS = 0.5
"""Between two looks of a node for work."""

OWN_MACHINE = ("127.0.0.1", "::1")
HOSPITALS_PATH = "/v1/fleet/"


class HospitalsOnly:
    """Refuses whatever another machine asks of a SuperLink, except what hospitals ask, which their keys guard."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _may_ask(scope):
            await PlainTextResponse("only this machine may ask that", status_code=403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _may_ask(scope: Scope) -> bool:
    peer = (scope.get("client") or ("",))[0]
    return peer in OWN_MACHINE or str(scope["path"]).startswith(HOSPITALS_PATH)


def superlink() -> None:
    """Flower's SuperLink behind `HospitalsOnly`, until the process that started it ends."""
    from flwr.superlink import extensions

    module = importlib.import_module("flwr.superlink.cli.flower_superlink")  # a function of that name hides it
    vars(extensions)["get_middleware"] = lambda: (Middleware(HospitalsOnly),)
    vars(module)["get_popen_detach_kwargs"] = dict  # what it starts stays in its group, and ends with it
    module.flower_superlink()


def supernode() -> None:
    """Flower's SuperNode, looking for work every `IDLE_SECONDS`."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    def sleep(seconds: float) -> None:
        """The shorter ones are for looks within the process, which cost nothing."""
        time.sleep(IDLE_SECONDS if seconds > IDLE_SECONDS else seconds / 10)

    quick: Any = SimpleNamespace(sleep=sleep)
    vars(start_client_internal)["time"] = quick
    _look_soon()
    send_without_copies()
    flower_supernode()


def keep_deadline(grid: Grid, seconds: float) -> None:
    """Has a server's `grid` wait for parts of a reply for so long after the questions were sent. Flower's would wait two hours
    for a hospital that froze while it sent them.
    """
    push, pull, end = grid.push_messages, grid.pull_messages, time.monotonic()

    def push_messages(messages: Iterable[Message]) -> Iterable[str]:
        nonlocal end
        names = list(push(messages))
        end = time.monotonic() + seconds
        return names

    def pull_messages(message_ids: Iterable[str]) -> Iterable[Message]:
        _look_soon(for_seconds=max(0.0, end - time.monotonic()))
        return list(pull(message_ids))

    vars(grid).update(push_messages=push_messages, pull_messages=pull_messages)


def _look_soon(for_seconds: float | None = None) -> None:
    """Who waits for a part of a message that is still on its way looks again soon, and for as long as it takes or this long."""
    from flwr.supercore.inflatable.inflatable_utils import pull_objects

    soon = {"initial_backoff": IDLE_SECONDS / 5, "backoff_cap": IDLE_SECONDS, "max_tries_per_object": None}
    pull_objects.__kwdefaults__ = {**(pull_objects.__kwdefaults__ or {}), **soon, "max_time": for_seconds}


@functools.cache  # once in a process
def send_without_copies() -> None:
    """A piece of 16 MB would be copied 512 times over: https://github.com/encode/httpcore/issues/1029."""
    from httpcore._backends.sync import SyncStream

    write: Any = SyncStream.write

    def write_view(self: SyncStream, buffer: bytes, timeout: float | None = None) -> None:
        write(self, memoryview(buffer), timeout)

    SyncStream.write = write_view  # type: ignore[method-assign]


class StandingExecutor:
    """Answers one message after the other in one child, forked from this process, which has imported all that it needs.

    Should the child die, the next message gets another. This process must not have computed anything with torch: threads do
    not survive a fork.
    """

    def __init__(self) -> None:
        self._child = 0
        self._tasks: Connection | None = None

    def get_eligible_capacity(self, supported_task_types: set[Any], **_: Any) -> tuple[set[Any], set[str]]:
        from flwr.supercore.constant import TaskType

        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def wait_for_capacity(self, *_: Any, **__: Any) -> None:
        pass

    def launch(self, spec: Any) -> Any:
        from flwr.supercore.superexec.executor import LaunchResult

        self.reconcile()
        if self._tasks is None:
            self._tasks = self._fork()
        try:
            self._tasks.send((spec.runtime_api_address, spec.token))
        except BrokenPipeError:
            return LaunchResult.failed("the process that answers messages has just ended")
        return LaunchResult.accepted()

    def _fork(self) -> Connection:
        parent, (tasks, ours) = os.getpid(), Pipe(duplex=False)
        self._child = os.fork()
        if self._child == 0:
            ours.close()
            _become_client(tasks, parent)
        tasks.close()
        return ours

    def reconcile(self) -> None:
        """Takes leave of a child that has ended."""
        if self._tasks is not None and os.waitpid(self._child, os.WNOHANG)[0] != 0:
            self.close()

    def close(self) -> None:
        """Lets the child end with the message that it is at."""
        if self._tasks is not None:
            self._tasks.close()
            self._tasks = None


def _become_client(tasks: Connection, parent: int) -> None:
    """In the child: answers messages until there are no more, and ends without unwinding into the parent's code."""
    from flwr.supercore.exit import exit_handler
    from flwr.supernode.runtime import run_clientapp as module

    def end_message(*_: Any, **__: Any) -> None:
        for early in (True, False):
            exit_handler.trigger_exit_handlers(run_before_force_exit=early)

    def on_end(*_: Any, exit_handlers: Sequence[Callable[[], None]] = (), **__: Any) -> None:
        for handler in exit_handlers:
            exit_handler.add_exit_handler(handler)

    # Flower's own end the process with its one message
    vars(module).update(flwr_exit=end_message, register_signal_handlers=on_end)
    try:
        parent_watch.end_with(parent)
        while True:
            address, token = tasks.recv()
            module.run_clientapp(address, token, insecure=True, runtime_dependency_install=False)
    except (EOFError, KeyboardInterrupt):
        pass
    except Exception:
        logging.getLogger(__name__).exception("the process that answers messages ended")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def serve_node(runtime_address: str, secret: bytes, wait: Callable[[], object]) -> None:
    """Has every message of the SuperNode at `runtime_address` answered, until `wait` returns: the SuperNode has ended."""
    from flwr.supercore.superexec import run_superexec as module

    require_checked()
    from flwr.supernode.runtime import run_clientapp  # noqa: F401  (its child needs it, and it takes half a second)

    _look_soon()
    send_without_copies()
    os.environ["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = str(IDLE_SECONDS)
    executor: Any = StandingExecutor()
    vars(module)["get_executor"] = lambda *_, **__: executor
    vars(module)["register_signal_handlers"] = lambda **_: None  # Flower's end the process without a word 5 s later
    ended = threading.Event()
    vars(module)["make_simple_http_retry_invoker"] = lambda: _retry_until(ended)

    def watch() -> None:
        wait()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        module.run_superexec(runtime_address, insecure=True, superexec_auth_secret=secret)
    except Exception:
        if not ended.is_set():
            raise


def _retry_until(ended: threading.Event) -> Any:
    """Flower's way to ask again, which would ask a SuperNode that is gone for ever. A signal to the thread that waits would not
    do: whoever starts us in the background of a script has SIGINT ignored.
    """
    from flwr.supercore.retry import make_simple_http_retry_invoker

    invoker: Any = make_simple_http_retry_invoker()
    gives_up = invoker.should_giveup
    invoker.should_giveup = lambda error: ended.is_set() or gives_up(error)
    invoker.wait_function = ended.wait
    return invoker


def main() -> None:
    require_checked()
    {"superlink": superlink, "supernode": supernode}[sys.argv.pop(1)]()


if __name__ == "__main__":
    main()
