"""No process outlives the one that started it, however that one dies.

    python -m medisync.parent_watch MODULE [ARGUMENT ...]

runs a module. Standard input is a pipe that only the starter holds: its end says that the starter has gone, also if it was
killed and could not stop anything. The module then ends as by Ctrl-C.
"""

import os
import runpy
import select
import signal
import sys
import threading
import time

LOOK_SECONDS = 0.5
END_SECONDS = 10.0
"""How long a module may take to end as by Ctrl-C before it is cut off."""


def main() -> None:
    """Becomes the module that the first argument names."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background has it ignored
    pipe = os.dup(sys.stdin.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    threading.Thread(target=_end_with_starter, args=(pipe,), daemon=True).start()
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_starter(pipe: int) -> None:
    """Not through `sys.stdin`, whose lock a process forked meanwhile would wait for without end; and to the whole process, so
    that it wakes a main thread that waits.
    """
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(END_SECONDS)
    os._exit(1)


def end_with(starter: int = 0) -> None:
    """Ends this process once that one has gone, whatever it is doing then; 0: the parent that it has now.

    For processes that a pool, Flower or a fork started; a pool's may have a server for forks as their parent. Flower's own way is
    a signal to a main thread that may itself wait, for something that has gone too.
    """
    starter = starter or os.getppid()

    def watch() -> None:
        _wait_for_end(starter)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_end(process: int) -> None:
    """Of any process, whether somebody has taken note of its end or not; where the system cannot tell, of the parent only."""
    try:
        end = select.poll()
        end.register(os.pidfd_open(process), select.POLLIN)
        end.poll()
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # neither Linux nor a kernel since 5.3
        while os.getppid() == process:
            time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
