"""Commands that use a trained model: `predict`, `evaluate`, `adapt` and `export`."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.cli.common import add, existing_workspace, shown
from medisync.errors import ArtifactError, ConfigError, DataError, MediSyncError, printable

if TYPE_CHECKING:
    from medisync.imaging.file_tree import LeftOut
    from medisync.inference.folders import ScanPrediction
    from medisync.inference.predictor import Classifier
    from medisync.schemas import Label


def add_predict(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Classify scans with a trained model; writes one CSV row each. Research use only; not a diagnosis."
    command = add(commands, shared, "predict", predict, summary)
    help_paths = "an image, a DICOM or NIfTI file, a folder or a ZIP archive; the files of a DICOM series are one scan"
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=help_paths)
    _add_model(command)
    slices = command.add_mutually_exclusive_group()
    slices.add_argument(
        "--slice",
        metavar="N",
        type=_slice_number,
        help="predict slice N of each volume, from 1 (default: one in its middle)",
    )
    slices.add_argument("--all-slices", action="store_true", help="predict every slice of each volume, one row each")
    command.add_argument("--output", metavar="FILE", type=Path, help="write the CSV to FILE instead of standard output")


def _slice_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected the number of a slice, from 1, got {text!r}")
    return int(text)


def predict(options: argparse.Namespace) -> int:
    import io

    from medisync.imaging.file_tree import counted
    from medisync.inference import folders
    from medisync.reporting import prediction_csv
    from medisync.workspace.atomic import write_bytes

    found = folders.find_scans(options.paths)
    if not found.scans:
        raise DataError(_no_scans(options.paths, found.left_out))
    classifier = _load_classifier(options, options.hospital)
    table = io.StringIO() if options.output else sys.stdout
    wanted = folders.EVERY if options.all_slices else options.slice
    results: list[folders.ScanPrediction] = []

    def rows() -> Iterator[list[str]]:
        for each in folders.predict_scans(classifier, found.scans, wanted):
            results.append(each)
            yield prediction_csv.row(each.scan.name, each.prediction or each.problem, each.slice_number, each.slices)

    prediction_csv.write(table, rows())
    if options.output:
        write_bytes(options.output, table.getvalue().encode())  # type: ignore[union-attr]
    read = len({id(each.scan) for each in results if each.prediction})
    left_out = f"; left out {counted(len(found.left_out), 'file')}: {found.left_out}" if found.left_out else ""
    print(f"read {counted(read, 'scan')}{_verdicts(results)}{left_out}", file=sys.stderr)
    _say_prior(classifier)
    if failed := len(found.scans) - read:
        raise DataError(f"{failed} of {counted(len(found.scans), 'scan')} could not be read; their rows say why")
    return 0


def _verdicts(results: "Sequence[ScanPrediction]") -> str:
    """Returns how many predictions have each verdict; empty for a run before verdicts."""
    given = [each.prediction.verdict for each in results if each.prediction]
    counts = {verdict: given.count(verdict) for verdict in ("answer", "doubt", "no answer")}
    return f"; verdicts: {', '.join(f'{count} {name}' for name, count in counts.items())}" if any(given) else ""


def _say_prior(classifier: "Classifier") -> None:
    """Says which prior was used, if the model has priors."""
    from medisync.reporting import verdicts

    if prior := verdicts.prior(classifier.meta, classifier.hospital):
        print(prior, file=sys.stderr)


def _no_scans(paths: Sequence[Path], left_out: "LeftOut") -> str:
    searched = ", ".join(map(shown, paths))
    instead = f"; found {left_out}" if left_out else ""
    return f"no scans found in {searched}; expected PNG, JPEG, TIFF, WebP, BMP, GIF, DICOM or NIfTI files{instead}"


def add_evaluate(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Evaluate a trained model on scans that it has not seen, sorted into class folders."
    command = add(commands, shared, "evaluate", evaluate, summary)
    help_folder = (
        "folder with class folders, at any depth, such as glioma/ or no_tumor/, or named as in the run's class maps"
    )
    command.add_argument("folder", type=Path, metavar="DIR", help=help_folder)
    _add_model(command, "use the class map of this hospital, and predict under its own prior and statistics")
    help_other = "folders of this name hold scans that are of none of the classes, like those called other/; repeatable"
    command.add_argument("--other", metavar="NAME", action="append", default=[], help=help_other)
    command.add_argument("--json", action="store_true", help="print the metrics as JSON")


def evaluate(options: argparse.Namespace) -> int:
    from medisync.imaging.file_tree import counted
    from medisync.inference.folder_scores import folder_labels, score_folder

    labels = folder_labels(_class_maps(options), options.hospital, options.other)
    classifier = _load_classifier(options, _distinguished(options))
    scores = score_folder(classifier, options.folder, labels)
    for each in scores.unreadable:
        print(printable(f"skipped: {each.scan.name}: {each.problem}"), file=sys.stderr)
    for folder in scores.folders:
        print(f"not scored: {folder}", file=sys.stderr)
    if scores.files:
        print(f"left out {counted(len(scores.files), 'file')}: {scores.files}", file=sys.stderr)
    _say_prior(classifier)
    print(json.dumps(scores.to_json(), indent=1) if options.json else scores.text())
    return 0


def _class_maps(options: argparse.Namespace) -> "dict[str, dict[str, Label]]":
    """Returns each hospital's class map, as the model's run recorded them; none if its record is not there any more."""
    from medisync.workspace import artifacts

    workspace = existing_workspace(options)
    try:
        run = options.run or artifacts.read(workspace.models, artifacts.META).run
        hospitals = artifacts.read(artifacts.run_folder(workspace, run), artifacts.RUN).configuration.get(
            "hospitals", []
        )
    except ArtifactError:
        return {}
    return {hospital["name"]: hospital["class_map"] for hospital in hospitals}


def _distinguished(options: argparse.Namespace) -> str:
    """Returns the hospital that the scans come from, or none where the model treats all hospitals alike."""
    from medisync.workspace import artifacts

    try:
        return options.hospital if artifacts.read(_model_folder(options), artifacts.META).distinguishes else ""
    except ArtifactError:
        return ""  # loading the model will say what is wrong


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
    classifier = _load_classifier(options, options.hospital)
    for file, write in wanted:
        if file:
            write_bytes(file, write(classifier))
            print(f"wrote {shown(file)}, {file.stat().st_size / 1e6:.1f} MB")
    return 0


def add_adapt(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = (
        "Estimate a hospital's class frequencies and OOD threshold from scans of its own; the weights stay the same."
    )
    command = add(commands, shared, "adapt", adapt, summary)
    command.add_argument("folder", type=Path, metavar="DIR", help="folder with at least 50 scans; labels are not read")
    help_name = "what to call the hospital: predict its scans with `medisync predict --hospital NAME`"
    command.add_argument("--name", metavar="NAME", required=True, help=help_name)
    help_patients = "scans that lie in one folder are of one patient: the estimate is then as uncertain as it should be"
    command.add_argument("--patient-folders", action="store_true", help=help_patients)
    _add_run(command)


def adapt(options: argparse.Namespace) -> int:
    import numpy as np

    from medisync.imaging.file_tree import counted
    from medisync.inference import adaptation
    from medisync.workspace import adaptations

    classifier = _load_classifier(options, "")
    name = adaptation.require_adaptable(classifier, options.name)
    scans = adaptation.read_scans(classifier, options.folder, patient_folders=options.patient_folders)
    left_out = f"; left out {counted(len(scans.left_out), 'file')}: {scans.left_out}" if scans.left_out else ""
    print(f"read {counted(len(scans.ood_scores), 'scan')}{left_out}", file=sys.stderr)
    record = adaptation.adapt(classifier, name, scans, np.random.default_rng(0))
    file = adaptations.write(_model_folder(options), record)
    print(adaptation.summary(record, scans, classifier.calibration.distance_threshold))
    print(f"wrote {shown(file)}; predict scans of this hospital with --hospital {shlex.quote(name)}")
    return 0


SCANNED_AT = (
    "hospital that the scans come from: one of the federation, to predict under its own prior and statistics, or one that"
    " `medisync adapt` named"
)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run", metavar="RUN", help="use the model of this run, such as run-003 (default: the published model)"
    )


def _add_model(command: argparse.ArgumentParser, help_hospital: str = SCANNED_AT) -> None:
    _add_run(command)
    command.add_argument("--hospital", metavar="NAME", default="", help=help_hospital)


def _model_folder(options: argparse.Namespace) -> Path:
    from medisync.workspace import artifacts

    workspace = existing_workspace(options)
    return artifacts.run_folder(workspace, options.run) if options.run else workspace.models


def _load_classifier(options: argparse.Namespace, hospital: str) -> "Classifier":
    from medisync.inference import predictor

    folder = _model_folder(options)
    try:
        return predictor.open_run(folder, hospital)
    except ArtifactError as error:
        raise MediSyncError(
            f"no model in {shown(folder)} ({error}); train one with `medisync train`, or try `medisync demo`"
        ) from None
