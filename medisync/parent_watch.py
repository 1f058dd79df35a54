"""Ends a process when the one that started it ends, even if that one was killed.

    python -m medisync.parent_watch MODULE [ARGUMENT ...]

runs a module with a pipe as standard input that only the starter holds. When the starter ends, the pipe closes, and the
module ends as it does on Ctrl-C.
"""

import os
import runpy
import select
import signal
import sys
import threading
import time

POLL_SECONDS = 0.5
"""Interval of checks for the parent where the system cannot report its end."""

GRACE_SECONDS = 10.0
"""Time that a module has to end after the interrupt before it is ended by force."""


def main() -> None:
    """Runs the module that the first argument names in this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by default in a script's background jobs
    pipe = os.dup(sys.stdin.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    threading.Thread(target=_end_with_starter, args=(pipe,), daemon=True).start()
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_starter(pipe: int) -> None:
    """Interrupts this process when the pipe closes.

    Reads the file descriptor rather than `sys.stdin`, for whose lock a process forked meanwhile would wait for ever.
    Signals the whole process, so that a waiting main thread wakes up.
    """
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def end_with(starter: int = 0) -> None:
    """Ends this process as soon as the process `starter` has ended, whatever it is doing; 0 stands for its parent.

    Meant for processes started by a pool, by Flower or by a fork. Pools pass the process id, because their workers'
    parent may be a fork server. Flower itself only signals the main thread, which may be waiting for something that has
    ended as well.
    """
    starter = starter or os.getppid()

    def watch() -> None:
        _wait_for_end(starter)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_end(process: int) -> None:
    """Waits for the end of any process, reaped or not; where the system cannot report it, of the parent only."""
    try:
        end = select.poll()
        end.register(os.pidfd_open(process), select.POLLIN)
        end.poll()
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
        while os.getppid() == process:
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
