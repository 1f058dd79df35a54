"""Several runs side by side: what differs in their parameters, and what came of it; no streamlit, no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from pandas.io.formats.style import Styler

from medisync.reporting.formatting import NO_VALUE, escape, scope_name
from medisync.reporting.run_comparison import flatten
from medisync.reporting.tables.metric_tables import style, with_interval
from medisync.schemas import Metrics, ModelMeta, RunRecord

FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "ece": "calibration error"}


def parameters(records: Sequence[RunRecord]) -> Styler | None:
    """The parameters that are not the same in all runs, one row each; None where all are."""
    settings = {record.run: flatten(record.configuration) for record in records}
    names = sorted({name for setting in settings.values() for name in setting})
    different = [name for name in names if len({repr(setting.get(name)) for setting in settings.values()}) > 1]
    rows = {name: {run: _shown(s, name) for run, s in settings.items()} for name in different}
    return _table("Parameter", rows) if rows else None


def settings(record: RunRecord) -> Styler:
    """Every parameter of a run by its dotted name, then the versions of what it ran on."""
    found = flatten(record.configuration)
    rows = [("Parameter", name, escape(str(value))) for name, value in found.items()]
    rows += [("Software", name, escape(version)) for name, version in record.software.items()]
    return style({"Kind": kind, "Name": escape(name), "Value": value} for kind, name, value in rows)


def _shown(setting: Mapping[str, Any], name: str) -> str:
    return escape(str(setting[name])) if name in setting else NO_VALUE


def figures(metas: Sequence[ModelMeta]) -> Styler:
    """Test figures with their intervals, over all hospitals and in each that any of the runs has."""
    places: list[str | None] = [None, *dict.fromkeys(name for meta in metas for name in meta.metrics.hospitals)]
    rows = {
        f"{escape(scope_name(place))}: {words}": {meta.run: with_interval(_scores(meta, place), name) for meta in metas}
        for place in places
        for name, words in FIGURES.items()
    }
    return _table("Test scans of", rows)


def _scores(meta: ModelMeta, place: str | None) -> Metrics | None:
    return meta.metrics.test if place is None else meta.metrics.hospitals.get(place)


def _table(head: str, rows: Mapping[str, Mapping[str, str]]) -> Styler:
    return style([{head: name, **cells} for name, cells in rows.items()])
