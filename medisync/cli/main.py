"""Entry point of the program: one parser, one command, one exit code."""

import argparse
import sys
from collections.abc import Callable, Sequence

from medisync.cli import federation, ingest, models, training, workspaces
from medisync.errors import ConfigError, MediSyncError, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; a foreseeable mistake is reported in one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except MediSyncError as error:
        if options.debug:
            raise
        print("\n".join(map(printable, f"medisync: {error}".split("\n"))), file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("medisync: stopped", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medisync",
        description="Federated learning for brain-tumour MRI classification. Research use only; not a medical device.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--workspace",
        metavar="DIR",
        help="workspace folder, which holds dataset/ (default: $MEDISYNC_WORKSPACE, else the current folder)",
    )
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        *(training.add_demo, training.add_train, workspaces.add_serve, workspaces.add_audit),
        *(models.add_predict, models.add_evaluate, models.add_adapt, models.add_export),
        *(workspaces.add_download, workspaces.add_runs, ingest.add_ingest, federation.add_federation),
    ):
        add(commands, shared)
    return parser
