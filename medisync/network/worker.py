"""The process in which a hospital answers messages, one after the other.

Flower starts a new process for every message, which imports torch for seconds and sets its kernels up anew: measured as
3 core seconds of a round. Here one process, forked from one that has imported everything, answers all messages. The
parent must not have computed anything with torch before, because threads do not survive a fork.

Flower's inner names are those of flwr 1.41. Two of its functions are replaced, in the worker only, because they end the
process together with its one message: `flwr_exit` and `register_signal_handlers`.
"""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from medisync import parent_watch
from medisync.federation.flower_version import require_checked
from medisync.network import flower

RESTART_PAUSE = 5.0

log = logging.getLogger(__name__)


def serve(runtime_address: str, secret: bytes, node_is_alive: Callable[[], bool]) -> None:
    """Answers the messages of the SuperNode at `runtime_address` until `node_is_alive()` is false.

    A worker that ends before, for example for lack of memory, is replaced. Flower's client would never stop asking a
    SuperNode that has ended, so the worker is killed with it.
    """
    require_checked()
    from flwr.supernode.runtime import run_clientapp  # noqa: F401  (the worker needs it, and it takes half a second)

    while node_is_alive():
        worker = multiprocessing.get_context("fork").Process(
            target=_answer_messages, args=(runtime_address, secret, os.getpid())
        )
        worker.start()
        try:
            while worker.is_alive() and node_is_alive():
                worker.join(flower.IDLE_SECONDS)
        finally:
            worker.kill()
            worker.join()
        if node_is_alive():
            log.error("the process that answers messages ended (exit code %s); starting another", worker.exitcode)
            time.sleep(RESTART_PAUSE)


def _answer_messages(runtime_address: str, secret: bytes, parent: int) -> None:
    """Fetches one message after the other from the SuperNode and has each answered by the client app."""
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supernode.runtime import run_clientapp

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent_watch.end_with(parent)
    flower.look_for_parts_soon()
    flower.send_without_copies()
    vars(run_clientapp).update(flwr_exit=_end_message, register_signal_handlers=_on_end_of_message)
    client = _runtime_client(runtime_address, secret)
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    while True:
        task = client.AcquireTask(request)
        if task.token:
            run_clientapp.run_clientapp(runtime_address, task.token, insecure=True, runtime_dependency_install=False)
        time.sleep(flower.IDLE_SECONDS)


def _runtime_client(runtime_address: str, secret: bytes) -> Any:
    """Returns the client that Flower's own SuperExec asks for tasks with. It proves that it knows the secret."""
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
    from flwr.supercore.retry import make_simple_http_retry_invoker
    from flwr.supercore.runtime import RuntimeHttpClient

    proof = SuperExecAuthHttpInterceptor(
        master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
    )
    return RuntimeHttpClient.from_server_address(
        server_address=runtime_address,
        insecure=True,  # plain HTTP, on the loopback interface only
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), proof],
        retry_invoker=make_simple_http_retry_invoker(),
    )


def _end_message(*_: Any, **__: Any) -> None:
    """Does at the end of a message what Flower does at the end of its process."""
    from flwr.supercore.exit import exit_handler

    for early in (True, False):
        exit_handler.trigger_exit_handlers(run_before_force_exit=early)


def _on_end_of_message(*_: Any, exit_handlers: Sequence[Callable[[], None]] = (), **__: Any) -> None:
    from flwr.supercore.exit import exit_handler

    for handler in exit_handlers:
        exit_handler.add_exit_handler(handler)
