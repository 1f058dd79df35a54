"""Runs side by side, as text: what `medisync runs` prints."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medisync.errors import ArtifactError
from medisync.schemas import BaselineRecord, Interval, ModelMeta
from medisync.workspace import artifacts
from medisync.workspace.artifacts import RunListing, Workspace


def listing(workspace: Workspace) -> str:
    """One line per run, newest first; an unreadable one says why."""
    runs = artifacts.list_runs(workspace)
    if not runs:
        return "no runs yet; `medisync train` makes one, `medisync demo` makes one on phantom hospitals"
    return "\n".join(_line(run) for run in runs)


def _line(run: RunListing) -> str:
    if run.record is None:
        return f"{run.name}  unreadable: {run.problem}"
    meta: ModelMeta = artifacts.read(run.folder, artifacts.META)
    kind = "  (synthetic)" if run.record.synthetic else ""
    return (
        f"{run.name}  {run.record.finished_at}  test accuracy {meta.metrics.test_accuracy:.1%}  "
        f"macro F1 {meta.metrics.avg_f1:.3f}  best round {meta.best_epoch} of {meta.num_epochs}{kind}"
    )


def difference(workspace: Workspace, first: str, second: str) -> str:
    """A table of the parameters and figures in which two runs differ."""
    columns = [_facts(workspace, name) for name in (first, second)]
    names = [name for name in columns[0] | columns[1] if columns[0].get(name) != columns[1].get(name)]
    if not names:
        return f"{first} and {second} do not differ"
    rows = [("", first, second), *((name, *(str(column.get(name, "-")) for column in columns)) for name in names)]
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def spread(workspace: Workspace, names: Sequence[str]) -> str:
    """Mean and standard deviation of the test figures over runs that differ in their seed."""
    metas: list[ModelMeta] = [artifacts.read(workspace.artifacts / name, artifacts.META) for name in names]
    figures = [_spread_figures(meta) for meta in metas]
    rows = [(name, _mean([each.get(name) for each in figures])) for name in figures[0]]
    width = max(len(name) for name, _ in rows)
    return "\n".join([f"{len(names)} runs, mean and standard deviation", *(f"{n.ljust(width)}  {v}" for n, v in rows)])


def _spread_figures(meta: ModelMeta) -> dict[str, float | None]:
    test = meta.metrics.test
    return {
        "test accuracy": test.accuracy,
        "balanced accuracy": test.balanced_accuracy,
        "macro F1": test.macro_f1,
        "macro AUC": test.macro_auc,
        "ECE": test.ece,
        **{f"test accuracy, {name}": scores.accuracy for name, scores in meta.metrics.hospitals.items()},
    }


def _mean(values: Sequence[float | None]) -> str:
    defined = [value for value in values if value is not None]
    if not defined:
        return "undefined"
    deviation = f" +- {statistics.stdev(defined):.3f}" if len(defined) > 1 else ""
    return f"{statistics.mean(defined):.3f}{deviation}"


def _facts(workspace: Workspace, name: str) -> dict[str, Any]:
    folder = workspace.artifacts / name
    if not folder.is_dir():
        known = ", ".join(run.name for run in artifacts.list_runs(workspace)) or "none"
        raise ArtifactError(f"{name}: no such run (there are: {known})")
    record, meta = artifacts.read(folder, artifacts.RUN), artifacts.read(folder, artifacts.META)
    return {**flatten(record.configuration), **record.software, **_figures(meta), **_baselines(folder)}


def flatten(configuration: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Parameters by their dotted names, such as `training.image_size`."""
    flat: dict[str, Any] = {}
    for name, value in configuration.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _figures(meta: ModelMeta) -> dict[str, Any]:
    metrics, intervals = meta.metrics, meta.metrics.test.intervals
    return {
        "best round": f"{meta.best_epoch} of {meta.num_epochs}",
        "test accuracy": f"{metrics.test_accuracy:.1%}{_range(intervals.get('accuracy'))}",
        "macro F1": f"{metrics.avg_f1:.3f}",
        "ECE": "undefined" if metrics.test.ece is None else f"{metrics.test.ece:.3f}",
        **{
            f"test accuracy, {name}": "undefined" if scores.accuracy is None else f"{scores.accuracy:.1%}"
            for name, scores in metrics.hospitals.items()
        },
    }


def _baselines(folder: Path) -> dict[str, str]:
    """Test accuracy of each baseline over all hospitals; none for a run from before there were any."""
    if not (folder / artifacts.BASELINES).exists():
        return {}
    record: BaselineRecord = artifacts.read(folder, artifacts.BASELINES)
    return {
        f"{each.kind} model ({', '.join(each.trained_at)})": f"{each.test.accuracy or 0:.1%}"
        f"{_range(each.test.intervals.get('accuracy'))}"
        for each in record.models[1:]
    }


def _range(interval: Interval | None) -> str:
    return f" ({interval.low:.1%} to {interval.high:.1%})" if interval else ""
