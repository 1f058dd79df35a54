"""Commands that use a trained model: `predict`, `evaluate` and `export`."""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.cli.common import add, existing_workspace, shown
from medisync.errors import ArtifactError, ConfigError, DataError, MediSyncError, printable

if TYPE_CHECKING:
    from medisync.inference.predictor import Classifier


def add_predict(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Classify images with a trained model; writes one CSV row each. Research use only; not a diagnosis."
    command = add(commands, shared, "predict", predict, summary)
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image or a folder of images")
    _add_model(command)
    command.add_argument("--output", metavar="FILE", type=Path, help="write the CSV to FILE instead of standard output")


def predict(options: argparse.Namespace) -> int:
    import io

    from medisync.inference import folders
    from medisync.schemas import LABELS
    from medisync.workspace.atomic import write_bytes

    files = folders.find_images(options.paths)
    if not files:
        searched = ", ".join(map(shown, options.paths))
        raise DataError(f"no images found in {searched}; expected files of type PNG, JPEG, TIFF, WebP, BMP or GIF")
    classifier = _load_classifier(options)
    table = io.StringIO() if options.output else sys.stdout
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "label", *LABELS, "note"])
    failed = 0
    for result in folders.predict_files(classifier, files):
        writer.writerow(folders.csv_row(result))
        failed += result.prediction is None
    if options.output:
        write_bytes(options.output, table.getvalue().encode())  # type: ignore[union-attr]
    if failed:
        raise DataError(f"{failed} of {len(files)} files could not be read; their rows say why")
    return 0


def add_evaluate(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Evaluate a trained model on images that it has not seen, sorted into class folders."
    command = add(commands, shared, "evaluate", evaluate, summary)
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="folder with class folders such as glioma/ or no_tumor/"
    )
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print the metrics as JSON")


def evaluate(options: argparse.Namespace) -> int:
    from medisync.inference import folders

    classifier = _load_classifier(options)
    scores = folders.score_folder(classifier, options.folder)
    for path, problem in scores.unreadable:
        print(printable(f"skipped: {path}: {problem}"), file=sys.stderr)
    print(json.dumps(scores.figures, indent=1) if options.json else scores.text())
    return 0


def add_export(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Export a trained model for use in other programs. Research use only."
    command = add(commands, shared, "export", export, summary)
    _add_model(command)
    command.add_argument("--safetensors", metavar="FILE", type=Path, help="write the weights under torchvision's names")
    command.add_argument("--onnx", metavar="FILE", type=Path, help="write the network, from pixels to probabilities")


def export(options: argparse.Namespace) -> int:
    from medisync.inference.export import to_onnx, to_safetensors
    from medisync.workspace.atomic import write_bytes

    wanted = [(options.safetensors, to_safetensors), (options.onnx, to_onnx)]
    if not any(file for file, _ in wanted):
        raise ConfigError("nothing to export; give --safetensors FILE, --onnx FILE or both")
    classifier = _load_classifier(options)
    for file, write in wanted:
        if file:
            write_bytes(file, write(classifier))
            print(f"wrote {shown(file)}, {file.stat().st_size / 1e6:.1f} MB")
    return 0


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run", metavar="RUN", help="use the model of this run, such as run-003 (default: the published model)"
    )
    command.add_argument(
        "--hospital",
        metavar="NAME",
        default="",
        help="use the BatchNorm statistics of this hospital, a participant that the scans come from",
    )


def _load_classifier(options: argparse.Namespace) -> "Classifier":
    from medisync.inference import predictor
    from medisync.workspace import artifacts

    workspace = existing_workspace(options)
    folder = artifacts.run_folder(workspace, options.run) if options.run else workspace.models
    try:
        return predictor.open_run(folder, options.hospital)
    except ArtifactError as error:
        raise MediSyncError(
            f"no model in {shown(folder)} ({error}); train one with `medisync train`, or try `medisync demo`"
        ) from None
