"""`medisync federation ...`: a federation over a network, with one process tree per hospital."""

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from medisync import notebook
from medisync.cli.common import (
    add,
    add_demo_flag,
    add_parameters,
    existing_workspace,
    print_result,
    run_parameters,
    shown,
)
from medisync.errors import FederationError


def add_federation(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "A federation over a network: one process tree per hospital."
    group = commands.add_parser("federation", help=summary, description=summary)
    steps = group.add_subparsers(required=True, metavar="STEP")
    init = add(
        steps, shared, "init", init_command, "Make keys, certificates and settings for a server and its hospitals."
    )
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder; existing files are not replaced")
    init.add_argument(
        "--server", default="127.0.0.1:9443", metavar="HOST:PORT", help="where hospitals will find the server"
    )
    server = add(steps, shared, "server", server_command, "Let hospitals connect, until Ctrl-C.")
    server.add_argument("settings", type=Path, metavar="server.toml")
    hospital = add(steps, shared, "hospital", hospital_command, "Take part as one hospital, until Ctrl-C.")
    hospital.add_argument("settings", type=Path, metavar="hospital.toml")
    _add_decisions(steps, shared)
    run = add(steps, shared, "run", run_command, "Start a run on a running server, and follow it.")
    run.add_argument("settings", type=Path, metavar="server.toml")
    loopback = add(
        steps, shared, "local", loopback_command, "Try a federation of this workspace's hospitals on this machine."
    )
    for command in (run, loopback):
        add_parameters(command)
        add_demo_flag(command)
        command.add_argument("--resume", metavar="RUN", help="resume an interrupted run after its last complete round")


def _add_decisions(steps: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the commands of a hospital's administrator that take no part in a federation themselves."""
    requests = add(steps, shared, "requests", requests_command, "List the runs that wait for this hospital's approval.")
    approve = add(steps, shared, "approve", approve_command, "Let this hospital take part in a run.")
    deny = add(steps, shared, "deny", deny_command, "Keep this hospital out of a run, also after it was approved.")
    for command in (approve, deny):
        command.add_argument("run", metavar="RUN", help="the run's name, as `medisync federation requests` lists it")
    summary = "A hospital's record of all messages."
    parts = steps.add_parser("audit-log", help=summary, description=summary)
    audit_log = parts.add_subparsers(required=True, metavar="STEP")
    verify = add(audit_log, shared, "verify", verify_command, "Look for edited, removed or moved lines.")
    for command in (requests, approve, deny, verify):
        command.add_argument("settings", type=Path, metavar="hospital.toml", nargs="?", default=Path("hospital.toml"))
    verify.add_argument(
        "--seals", type=Path, metavar="FILE", help="the server's file for this hospital, from the folder state/seals"
    )


def init_command(options: argparse.Namespace) -> int:
    from medisync.network import setup

    with _stopped_by_signals():
        made = setup.make(options.folder, options.server, notebook.configuration().hospitals)
    print(f"made {shown(made.server)}; hand each hospital its own folder, and nothing else:")
    print("\n".join(f"  {shown(file.parent)}" for file in made.hospitals.values()))
    return 0


def server_command(options: argparse.Namespace) -> int:
    from medisync.network import settings
    from medisync.network.superlink import superlink

    server = settings.read(settings.ServerSettings, options.settings)
    with _stopped_by_signals(), superlink(server) as link:
        print(f"listening at {server.listen} for {', '.join(each.name for each in server.hospitals)}", flush=True)
        link.process.wait()
    raise FederationError(f"the server ended: {link.last_line()} (log: {link.log})")


def hospital_command(options: argparse.Namespace) -> int:
    from medisync.network import supernode

    with _stopped_by_signals():
        supernode.take_part(options.settings.resolve())
    return 0


def requests_command(options: argparse.Namespace) -> int:
    from medisync.network import run_request, settings
    from medisync.network.ledger import Ledger

    hospital = settings.read(settings.HospitalSettings, options.settings)
    waiting = Ledger(hospital.ledger).read().waiting()
    print("\n".join(run_request.summarise(each.request) for each in waiting.values()) or "no run waits for approval")
    return 0


def approve_command(options: argparse.Namespace) -> int:
    return _decide(options, "approved")


def deny_command(options: argparse.Namespace) -> int:
    return _decide(options, "denied")


def _decide(options: argparse.Namespace, decision: Literal["approved", "denied"]) -> int:
    from medisync.network import run_request, settings
    from medisync.network.audit_log import AuditLog
    from medisync.network.ledger import Ledger

    hospital = settings.read(settings.HospitalSettings, options.settings)
    request = Ledger(hospital.ledger).decide(options.run, decision).request
    AuditLog(hospital.audit_log).append({"event": decision, "request": request.short_name, "named": request.run})
    print(f"{decision}:\n{run_request.summarise(request)}")
    return 0


def verify_command(options: argparse.Namespace) -> int:
    from medisync.network import audit_log, settings

    hospital = settings.read(settings.HospitalSettings, options.settings)
    seals = audit_log.read_seals(options.seals) if options.seals else []
    last = audit_log.verify(hospital.audit_log, seals)
    against = (
        f"held against {len(seals)} seals of the server"
        if seals
        else "without the server's seals, which show a cut end"
    )
    print(f"{last.line} lines, none edited, removed or moved ({against}); the last has SHA-256 {last.sha256}")
    return 0


def run_command(options: argparse.Namespace) -> int:
    from medisync.network import settings, submission

    workspace, file = existing_workspace(options), options.settings.resolve()
    parameters = run_parameters(workspace, options)
    server = settings.read(settings.ServerSettings, file)
    with _stopped_by_signals():
        name = submission.run(server, file, workspace.root, parameters, options.resume or "")
    print_result(workspace, name)
    return 0


def loopback_command(options: argparse.Namespace) -> int:
    from medisync.network import loopback

    workspace = existing_workspace(options)
    parameters = run_parameters(workspace, options)
    with _stopped_by_signals():
        name = loopback.run(workspace, parameters, options.resume or "")
    print_result(workspace, name)
    return 0


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Makes SIGTERM, from `kill` or `systemctl stop`, end a command as Ctrl-C does: its children first."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
