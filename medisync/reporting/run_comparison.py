"""Several runs side by side: tables for the dashboard, and the text that `medisync runs` prints."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from medisync.reporting.formatting import (
    ALL_HOSPITALS,
    NO_VALUE,
    decimal,
    model_name,
    moment,
    number,
    percent,
    plain,
    with_interval,
)
from medisync.reporting.headlines import lowest_in_words
from medisync.reporting.tables import table
from medisync.reporting.text_columns import display_width, lined_up, pad
from medisync.schemas import BaselineRecord, Metrics, ModelMeta, RunRecord
from medisync.workspace import artifacts
from medisync.workspace.artifacts import RunListing, Workspace

FIGURES: Mapping[str, str] = {"accuracy": "test accuracy", "macro_f1": "macro F1", "ece": "ECE"}


def runs(found: Iterable[tuple[RunRecord, ModelMeta]]) -> pd.DataFrame:
    """Returns one row per finished run: when, on what, how good."""
    columns = (
        "Run",
        "Finished",
        "Hospitals",
        "Scans",
        "Rounds",
        "Test accuracy",
        "Lowest of a hospital",
        "Macro F1",
        "Data",
        "Transport",
    )
    return table(columns, [_run_row(record, meta) for record, meta in found])


def _run_row(record: RunRecord, meta: ModelMeta) -> tuple[str, ...]:
    return (
        plain(record.run),
        moment(record.finished_at),
        number(len(meta.datasets)),
        number(sum(stats.total for stats in meta.datasets.values())),
        number(meta.num_epochs),
        with_interval(meta.metrics.test, "accuracy"),
        lowest_in_words(meta.metrics.hospitals),
        percent(meta.metrics.test.macro_f1),
        "synthetic" if record.synthetic else "real scans",
        record.transport,
    )


def parameters(record: RunRecord) -> pd.DataFrame:
    """Returns every parameter of a run by its dotted name, then the versions of its software."""
    settings = [(plain(name), plain(str(value)), "parameter") for name, value in flatten(record.configuration).items()]
    software = [(plain(name), plain(version), "software version") for name, version in record.software.items()]
    return table(("Name", "Value", "Kind"), [*settings, *software])


def different_parameters(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Returns the parameters that are not the same in all runs; empty where all are."""
    return _differing("Parameter", {record.run: flatten(record.configuration) for record in records})


def test_figures(metas: Sequence[ModelMeta]) -> pd.DataFrame:
    """Returns test figures over all hospitals and at each hospital of any of the runs."""
    columns = {meta.run: _figures(meta) for meta in metas}
    return _side_by_side("Measure", columns, dict.fromkeys(name for column in columns.values() for name in column))


def _figures(meta: ModelMeta) -> dict[str, str]:
    scopes: dict[str, Metrics] = {ALL_HOSPITALS: meta.metrics.test, **meta.metrics.hospitals}
    return {
        f"{plain(scope)}: {title}": with_interval(found, name)
        for scope, found in scopes.items()
        for name, title in FIGURES.items()
    }


def _differing(title: str, columns: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Returns one row per name whose values are not the same in all columns."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    differing = [name for name in names if len({repr(column.get(name)) for column in columns.values()}) > 1]
    return _side_by_side(title, columns, differing)


def _side_by_side(title: str, columns: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> pd.DataFrame:
    """Returns one column per run and one row per name; a dash where a run has no such value."""
    rows = [(plain(name), *(_shown(column, name) for column in columns.values())) for name in names]
    return table((title, *columns), rows)


def _shown(column: Mapping[str, Any], name: str) -> str:
    return plain(str(column[name]), 2000) if name in column else NO_VALUE


def flatten(configuration: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns parameters by their dotted names, such as `training.image_size`."""
    flat: dict[str, Any] = {}
    for name, value in configuration.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def listing(workspace: Workspace) -> str:
    """Returns one line per run, newest first, with the reason for an unreadable one."""
    found = artifacts.list_runs(workspace)
    if not found:
        return "no runs yet; `medisync train` makes one, `medisync demo` makes one on phantom hospitals"
    width = max(display_width(plain(run.name)) for run in found)
    return "\n".join(f"{pad(plain(run.name), width)}  {_line(run)}" for run in found)


def _line(run: RunListing) -> str:
    if run.record is None:
        return f"unreadable: {run.problem}"
    meta: ModelMeta = artifacts.read(run.folder, artifacts.META)
    kind = "  (synthetic)" if run.record.synthetic else ""
    note = f"  ({plain(run.note)})" if run.note else ""
    return (
        f"{moment(run.record.finished_at)}  test accuracy {with_interval(meta.metrics.test, 'accuracy')}  "
        f"lowest of a hospital {lowest_in_words(meta.metrics.hospitals)}  "
        f"macro F1 {percent(meta.metrics.test.macro_f1)}  round {meta.best_epoch} of {meta.num_epochs} selected{kind}{note}"
    )


def difference(workspace: Workspace, first: str, second: str, width: int = 0) -> str:
    """Returns a text table of the parameters, versions and figures in which two runs differ.

    It fits a terminal of `width` columns (0: as wide as it gets).
    """
    found = _differing("Name", {name: _facts(workspace, name) for name in (first, second)})
    if found.empty:
        return f"{first} and {second} do not differ"
    return lined_up([("", *found.columns), *found.itertuples(name=None)], width)


def _facts(workspace: Workspace, name: str) -> dict[str, Any]:
    """Returns everything that can differ between two runs. Raises ArtifactError if there is no such run."""
    folder = artifacts.run_folder(workspace, name)
    record, meta = artifacts.read(folder, artifacts.RUN), artifacts.read(folder, artifacts.META)
    compared = artifacts.read(folder, artifacts.BASELINES) if artifacts.BASELINES in record.files else None
    selected = {"selected round": f"{meta.best_epoch} of {meta.num_epochs}"}
    return {**flatten(record.configuration), **record.software, **selected, **_figures(meta), **_baselines(compared)}


def _baselines(record: BaselineRecord | None) -> dict[str, str]:
    """Returns test accuracy of each baseline over all hospitals; nothing for a run without baselines."""
    if record is None:
        return {}
    hospitals = list(record.models[0].hospitals)
    return {
        f"{model_name(each.kind, each.trained_at, hospitals)}: test accuracy": with_interval(each.test, "accuracy")
        for each in record.models[1:]
    }


def spread(workspace: Workspace, names: Sequence[str]) -> str:
    """Returns mean and standard deviation of the test figures over runs that differ in their seed, as text."""
    metas: list[ModelMeta] = [artifacts.read(workspace.artifacts / name, artifacts.META) for name in names]
    figures = [_spread_figures(meta) for meta in metas]
    rows = [(name, _mean([each.get(name) for each in figures])) for name in figures[0]]
    return f"{len(names)} runs, mean and standard deviation\n{lined_up(rows)}"


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
        return NO_VALUE
    deviation = f" +- {decimal(statistics.stdev(defined))}" if len(defined) > 1 else ""
    return f"{decimal(statistics.mean(defined))}{deviation}"
