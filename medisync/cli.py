"""`medisync ...`: thin commands over the stages. Exit codes: 0 done, 1 the data or the result is bad, 2 wrong usage."""

import argparse
import ast
import csv
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medisync import notebook
from medisync.errors import ArtifactError, ConfigError, DataError, FederationError, MediSyncError, printable

if TYPE_CHECKING:
    from medisync.artifacts import Workspace
    from medisync.inference import Classifier


DEMO_PARAMETERS: Mapping[str, Any] = {
    "IMAGE_SIZE": 96,
    "IMAGE_SIZE_SCHEDULE": "constant",
    "LOCAL_EPOCHS": 1,
    "MISSING_CLASS_PRIOR": 0.3,
    "LEARNING_RATE": 1e-3,
    "BATCH_SIZE": 16,
    "STEPS_PER_EPOCH": 0,
    "NORMALISATION": "averaged",
    "ADAM_MOMENTS": "fresh",
    "VALIDATE_EVERY": 1,
    "ROUNDS": 20,
    "PATIENCE": 10,
}
"""Enough for the phantom hospitals, in minutes on two cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a foreseeable mistake is one line on standard error."""
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
        description="Federated learning for brain-tumour MRI. Research use only, not a medical device.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--workspace", metavar="DIR", help="folder with dataset/ (default: $MEDISYNC_WORKSPACE, else here)"
    )
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        *(_add_demo, _add_train, _add_serve, _add_audit, _add_predict, _add_evaluate, _add_export, _add_download),
        *(_add_runs, _add_federation),
    ):
        add(commands, shared)
    return parser


def _add(commands: Any, shared: argparse.ArgumentParser, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, parents=[shared], help=summary, description=summary)
    command.set_defaults(command=run)
    return command


def _add_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set one name of the notebook's parameters cell",
    )


def _add_demo_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument("--demo", action="store_true", help="the demonstration's parameters instead of the notebook's")


def _add_demo(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _add(
        commands, shared, "demo", demo, "Make phantom hospitals in demo/, train on them, open the dashboard."
    )
    command.add_argument("--no-train", action="store_true", help="make the phantom hospitals and stop")
    command.add_argument("--no-serve", action="store_true", help="train and stop")
    command.set_defaults(demo=True)
    _add_parameters(command)


def demo(options: argparse.Namespace) -> int:
    from medisync import artifacts, phantom
    from medisync.records import PHANTOM_MARKER

    workspace = artifacts.locate(options.workspace or notebook.PROJECT / "demo")
    if not (workspace.dataset / PHANTOM_MARKER).exists():
        print(f"making phantom hospitals in {_shown(workspace.dataset)} ...", flush=True)
        phantom.write_hospitals(workspace.dataset, seed=0)
    if options.no_train:
        return 0
    _execute_notebook(workspace, _parameters(options))
    return 0 if options.no_serve else _serve(workspace)


def _add_train(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _add(
        commands, shared, "train", train, "Execute notebook.ipynb: audit, split, federate, evaluate, publish."
    )
    _add_parameters(command)
    _add_demo_flag(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, with the parameters it began with")
    how.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="one run per seed; then the mean and its spread over them"
    )


def train(options: argparse.Namespace) -> int:
    from medisync import artifacts, comparison

    workspace, parameters = artifacts.locate(options.workspace), _parameters(options)
    if options.resume:
        parameters = {**_parameters_of(workspace, options.resume), **parameters}
    if options.seeds is None:
        _execute_notebook(workspace, parameters)
        return 0
    for seed in options.seeds:  # a wrong one is refused before the first run starts
        notebook.configuration({**parameters, "SEED": seed})
    runs = [_execute_notebook(workspace, {**parameters, "SEED": seed}) for seed in options.seeds]
    print(f"\n{comparison.spread(workspace, runs)}")
    return 0


def _parameters_of(workspace: "Workspace", run: str) -> dict[str, Any]:
    """The notebook's parameters as an interrupted run has them."""
    from medisync import artifacts

    _, start = artifacts.reopen(workspace, run)
    sections = [section for section in start.configuration.values() if isinstance(section, dict)]
    began = {name.upper(): value for section in sections for name, value in section.items()}
    return {**{name: began[name] for name in notebook.literals() if name in began}, "RESUME": run}


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Those that differ from the notebook's."""
    return {
        **(DEMO_PARAMETERS if options.demo else {}),
        **{name: parse_value(text) for name, text in options.parameters},
    }


def parse_value(text: str) -> Any:
    """A Python literal, else the text itself: `-p ROUNDS 3`, `-p DEVICE cpu`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _execute_notebook(workspace: "Workspace", parameters: Mapping[str, Any]) -> str:
    """Runs the notebook's cells in a kernel of their own, keeps the executed notebook with the run, returns its name."""
    import tempfile

    import papermill
    from papermill.exceptions import PapermillExecutionError

    from medisync import artifacts

    notebook.configuration(parameters)  # a wrong value is refused here, before anything starts
    os.environ |= {"MEDISYNC_WORKSPACE": str(workspace.root), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / notebook.PATH.name
        try:
            papermill.execute_notebook(
                notebook.PATH,
                executed,
                dict(parameters),
                kernel_name="python3",
                cwd=notebook.PROJECT,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
        except PapermillExecutionError as error:
            raise MediSyncError(f"{error.ename}: {error.evalue}") from error
        name: str = parameters.get("RESUME") or artifacts.list_runs(workspace)[0].name
        artifacts.write_bytes(workspace.artifacts / name / artifacts.NOTEBOOK, _to_keep(executed))
    _print_result(workspace, name)
    return name


def _to_keep(executed: Path) -> bytes:
    """An executed notebook without what papermill notes of the machine that it ran on, and with progress bars as they ended."""
    import nbformat
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    content, _ = CoalesceStreamsPreprocessor(enabled=True).preprocess(nbformat.read(executed, 4), {})
    content.metadata.pop("papermill", None)
    written: str = nbformat.writes(content)
    return written.encode()


def _print_result(workspace: "Workspace", run: str) -> None:
    from medisync import artifacts

    metrics = artifacts.read(workspace.artifacts / run, artifacts.META).metrics
    interval = metrics.test.intervals["accuracy"]
    print(
        f"\n{run}: test accuracy {metrics.test_accuracy:.1%} "
        f"(95 % interval {interval.low:.1%} to {interval.high:.1%}), macro F1 {metrics.avg_f1:.3f}, n = {metrics.test.n}\n"
        f"artifacts in {_shown(workspace.artifacts / run)}, model in {_shown(workspace.models)}"
    )


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _add_serve(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _add(commands, shared, "serve", serve, "Open the dashboard on a workspace.")
    command.add_argument("--port", type=int, default=8501, help="on 127.0.0.1 (default: 8501)")


def serve(options: argparse.Namespace) -> int:
    from medisync import artifacts

    return _serve(artifacts.locate(options.workspace), options.port)


def _serve(workspace: "Workspace", port: int = 8501) -> NoReturn:
    """Becomes Streamlit, so that whatever ends the command ends the dashboard."""
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    sys.stdout.flush()
    os.chdir(notebook.PROJECT)
    # every session is a thread: with an arena for each, the memory of many sessions is never given back
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ, "MEDISYNC_WORKSPACE": str(workspace.root)}
    os.execve(sys.executable, command, environment)  # noqa: S606


def _add_audit(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _add(commands, shared, "audit", audit, "Look through the hospitals' datasets without training.")
    command.add_argument("--json", metavar="FILE", type=Path, help="write the audit record to FILE")


def audit(options: argparse.Namespace) -> int:
    from medisync import artifacts
    from medisync import audit as auditing

    workspace, hospitals = artifacts.locate(options.workspace), notebook.configuration().hospitals
    record = auditing.audit(hospitals, workspace.dataset)
    print("\n".join(auditing.log_lines(record)))
    if options.json:
        artifacts.write_bytes(options.json, record.model_dump_json(indent=1).encode())
    auditing.require_images(record, hospitals, workspace.dataset)
    return 0


def _add_predict(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Predict images with the published model; one CSV row each. Research use only, not a diagnosis."
    command = _add(commands, shared, "predict", predict, summary)
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image, or a folder of images")
    _add_model(command)
    command.add_argument("--output", metavar="FILE", type=Path, help="write the CSV to FILE instead of the terminal")


def predict(options: argparse.Namespace) -> int:
    import io

    from medisync import artifacts, inference
    from medisync.records import LABELS

    files = inference.find_images(options.paths)
    if not files:
        raise DataError("no images found there (accepted: PNG, JPEG, TIFF, WebP, BMP, GIF)")
    classifier = _load_classifier(options)
    table = io.StringIO() if options.output else sys.stdout
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "label", *LABELS, "note"])
    failed = 0
    for reading in inference.predict_files(classifier, files):
        writer.writerow(inference.csv_row(reading))
        failed += reading.prediction is None
    if options.output:
        artifacts.write_bytes(options.output, table.getvalue().encode())  # type: ignore[union-attr]
    if failed:
        raise DataError(f"{failed} of {len(files)} files could not be read; their rows say why")
    return 0


def _add_export(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Write the published network for other programs to read. Research use only."
    command = _add(commands, shared, "export", export, summary)
    _add_model(command)
    command.add_argument("--safetensors", metavar="FILE", type=Path, help="the weights, under torchvision's names")
    command.add_argument("--onnx", metavar="FILE", type=Path, help="the computation, from pixels to probabilities")


def export(options: argparse.Namespace) -> int:
    from medisync import artifacts
    from medisync import export as formats

    wanted = [(options.safetensors, formats.to_safetensors), (options.onnx, formats.to_onnx)]
    if not any(file for file, _ in wanted):
        raise ConfigError("nothing to write: say --safetensors FILE, --onnx FILE, or both")
    classifier = _load_classifier(options)
    for file, write in wanted:
        if file:
            artifacts.write_bytes(file, write(classifier))
            print(f"wrote {_shown(file)}, {file.stat().st_size / 1e6:.1f} MB")
    return 0


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run", metavar="RUN", help="use this run's model, for instance run-003 (default: the published one)"
    )
    command.add_argument(
        "--hospital",
        metavar="NAME",
        default="",
        help="the scans are this hospital's, which took part: use its own statistics, where the run has them",
    )


def _load_classifier(options: argparse.Namespace) -> "Classifier":
    from medisync import artifacts, inference

    workspace = artifacts.locate(options.workspace)
    folder = workspace.artifacts / options.run if options.run else workspace.models
    try:
        return inference.open_run(folder, options.hospital)
    except ArtifactError as error:
        raise MediSyncError(
            f"no model in {_shown(folder)} ({error}); make one with `medisync train`, or `medisync demo` for a try"
        ) from None


def _add_evaluate(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Score a run's model on a folder of class folders that it never saw."
    command = _add(commands, shared, "evaluate", evaluate, summary)
    command.add_argument("folder", type=Path, metavar="DIR", help="holds folders such as glioma/ or no_tumor/")
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print the figures as JSON")


def evaluate(options: argparse.Namespace) -> int:
    from medisync import inference

    classifier = _load_classifier(options)
    scores = inference.score_folder(classifier, options.folder)
    for path, problem in scores.unreadable:
        print(printable(f"left out: {path}: {problem}"), file=sys.stderr)
    print(json.dumps(scores.figures, indent=1) if options.json else scores.text())
    return 0


def _add_download(commands: Any, shared: argparse.ArgumentParser) -> None:
    _add(commands, shared, "download", download, "Fetch the three public datasets from Kaggle into dataset/.")


def download(options: argparse.Namespace) -> int:
    from medisync import artifacts
    from medisync import download as downloading

    downloading.download(artifacts.locate(options.workspace).dataset)
    return 0


def _add_runs(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _add(commands, shared, "runs", runs, "List the runs of a workspace, or compare two.")
    command.add_argument("--compare", nargs=2, metavar=("A", "B"), help="show only what differs between two runs")


def runs(options: argparse.Namespace) -> int:
    from medisync import artifacts, comparison

    workspace = artifacts.locate(options.workspace)
    if options.compare:
        print(comparison.difference(workspace, *options.compare))
    else:
        print(comparison.listing(workspace))
    return 0


def _add_federation(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "A federation over a network: one process tree per hospital."
    group = commands.add_parser("federation", help=summary, description=summary)
    steps = group.add_subparsers(required=True, metavar="STEP")
    init = _add(
        steps, shared, "init", federation_init, "Make keys, certificates and settings for a server and its hospitals."
    )
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder; nothing in it is replaced")
    init.add_argument(
        "--server", default="127.0.0.1:9443", metavar="HOST:PORT", help="where hospitals will find the server"
    )
    server = _add(steps, shared, "server", federation_server, "Let hospitals connect, until Ctrl-C.")
    server.add_argument("settings", type=Path, metavar="server.toml")
    hospital = _add(steps, shared, "hospital", federation_hospital, "Take part as one hospital, until Ctrl-C.")
    hospital.add_argument("settings", type=Path, metavar="hospital.toml")
    run = _add(steps, shared, "run", federation_run, "Start a run on a server that is up, and follow it.")
    run.add_argument("settings", type=Path, metavar="server.toml")
    local = _add(
        steps, shared, "local", federation_local, "Server and hospitals of this workspace on this machine, for a try."
    )
    for command in (run, local):
        _add_parameters(command)
        _add_demo_flag(command)
        command.add_argument("--resume", metavar="RUN", help="go on with an interrupted run after its last whole round")


def federation_init(options: argparse.Namespace) -> int:
    from medisync.network import setup

    made = setup.make(options.folder, options.server, notebook.configuration().hospitals)
    print(f"made {_shown(made.server)}; give each hospital its own folder, by hand, and nothing else:")
    print("\n".join(f"  {_shown(file.parent)}" for file in made.hospitals.values()))
    return 0


def federation_server(options: argparse.Namespace) -> int:
    from medisync.network import processes, settings

    server = settings.read(settings.ServerSettings, options.settings)
    with _stopped_by_signals(), processes.superlink(server) as link:
        print(f"listening at {server.listen} for {', '.join(each.name for each in server.hospitals)}", flush=True)
        link.process.wait()
    raise FederationError(f"the server ended: {link.last_words()} (log: {link.log})")


def federation_hospital(options: argparse.Namespace) -> int:
    from medisync.network import processes

    with _stopped_by_signals():
        processes.take_part(options.settings.resolve())
    return 0


def federation_run(options: argparse.Namespace) -> int:
    from medisync import artifacts
    from medisync.network import processes, settings

    workspace, file = artifacts.locate(options.workspace), options.settings.resolve()
    parameters = _run_parameters(workspace, options)
    server = settings.read(settings.ServerSettings, file)
    with _stopped_by_signals():
        name = processes.run(server, file, workspace.root, parameters, options.resume or "")
    _print_result(workspace, name)
    return 0


def federation_local(options: argparse.Namespace) -> int:
    from medisync import artifacts
    from medisync.network import local

    workspace = artifacts.locate(options.workspace)
    parameters = _run_parameters(workspace, options)
    with _stopped_by_signals():
        name = local.run(workspace, parameters, options.resume or "")
    _print_result(workspace, name)
    return 0


def _run_parameters(workspace: "Workspace", options: argparse.Namespace) -> dict[str, Any]:
    """What a run is to begin or, resumed, began with. Raises ConfigError for a wrong one before anything starts."""
    parameters = _parameters(options)
    if options.resume:
        parameters = {**_parameters_of(workspace, options.resume), **parameters}
    notebook.configuration(parameters)
    return parameters


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """An administrator's `kill` or `systemctl stop` ends a command as Ctrl-C does: its children first."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
