"""Charts of the federated model beside the models that it is compared with."""

from collections.abc import Sequence

from medisync.reporting.charts.theme import (
    GLOBAL,
    GLOBAL_SYMBOL,
    NEUTRAL,
    NEUTRAL_SYMBOL,
    Chart,
    hospital_colours,
    hospital_symbols,
    layout,
    matrix,
    scores,
)
from medisync.reporting.formatting import (
    ALL_HOSPITALS,
    axis_label,
    count,
    interval,
    model_name,
    percent,
    plain,
    points,
    scope_name,
    with_interval,
)
from medisync.reporting.tables import excludes_zero
from medisync.schemas import BaselineModel, BaselineRecord, PairedDifference


def accuracy_matrix(record: BaselineRecord) -> Chart:
    """Returns test accuracy of each model (row) on each hospital's test scans (column)."""
    hospitals = list(record.models[0].hospitals)
    scopes, names = [ALL_HOSPITALS, *hospitals], [_name(each, hospitals) for each in record.models]
    cells = [[each.test, *each.hospitals.values()] for each in record.models]
    figure = matrix(
        [[metrics.accuracy for metrics in row] for row in cells],
        [axis_label(scope, 9) for scope in scopes],
        [axis_label(name) for name in names],
        text=[[percent(metrics.accuracy) for metrics in row] for row in cells],
        customdata=[[interval(metrics.intervals.get("accuracy")) for metrics in row] for row in cells],
        texttemplate="%{text}",
        zmin=0,
        zmax=1,
        hovertemplate="model: %{y}<br>test scans of: %{x}<br>%{text}<br>%{customdata}<extra></extra>",
    )
    return Chart(
        "Test accuracy of each model at each hospital",
        layout(figure, x="Test scans of", y="Model", height=140 + 52 * len(record.models)),
        f"Test accuracy by model and hospital. {'; '.join(_in_words(each, hospitals) for each in record.models)}.",
    )


def _name(each: BaselineModel, hospitals: Sequence[str]) -> str:
    return model_name(each.kind, each.trained_at, hospitals)


def _in_words(each: BaselineModel, hospitals: Sequence[str]) -> str:
    figures = [f"{plain(name)} {percent(metrics.accuracy)}" for name, metrics in each.hospitals.items()]
    return f"{_name(each, hospitals)}: all hospitals {percent(each.test.accuracy)}, {', '.join(figures)}"


def accuracies(record: BaselineRecord, hospital: str | None = None) -> Chart:
    """Returns a forest plot of test accuracy on one hospital's scans, or on all: the federated model, then each other."""
    hospitals = list(record.models[0].hospitals)
    tested = [(each, each.hospitals[hospital] if hospital else each.test) for each in record.models]
    known = [(each, metrics) for each, metrics in tested if metrics.accuracy is not None]
    rows = [(axis_label(_name(each, hospitals)), metrics, *_look(each, hospitals)) for each, metrics in known]
    spoken = [f"{_name(each, hospitals)} {with_interval(metrics, 'accuracy')}" for each, metrics in known]
    return Chart(
        _title_at(record, hospital) if hospital else _title(record),
        scores(rows, "Test accuracy (95 % interval)"),
        f"Test accuracy, {scope_name(hospital)}: {'; '.join(spoken)}.",
    )


def _look(each: BaselineModel, hospitals: Sequence[str]) -> tuple[str, str]:
    """Returns colour and symbol: a local model looks like its hospital."""
    if each.kind == "federated":
        return GLOBAL, GLOBAL_SYMBOL
    if each.kind == "local":
        (at,) = each.trained_at
        return hospital_colours(hospitals)[at], hospital_symbols(hospitals)[at]
    return NEUTRAL, NEUTRAL_SYMBOL


def _title(record: BaselineRecord) -> str:
    """Returns what federation gains over local training, and what it costs against pooling the scans."""
    overall = [each for each in record.differences if each.hospital not in record.models[0].hospitals]
    local = [each for each in overall if each.kind == "local"]
    better = sum(each.low > 0 for each in local)
    said = [f"more accurate than {better} of {count(len(local), 'local model')}"] if local else []
    said += [_against(each, "the pooled model") for each in overall if each.kind == "pooled"]
    return f"Federated: {'; '.join(said)}" if said else "Test accuracy, all hospitals"


def _title_at(record: BaselineRecord, hospital: str) -> str:
    """Returns what a hospital asks first: does the federated model do better here than its local model?"""
    local = [each for each in record.differences if each.kind == "local" and each.trained_at == [hospital]]
    here = [each for each in local if each.hospital == hospital]
    return f"Federated, here: {_against(here[0], 'the local model')}" if here else "Test accuracy at this hospital"


def _against(each: PairedDifference, other: str) -> str:
    size = points(abs(each.difference)).lstrip("+")
    note = "" if excludes_zero(each) else " (95 % interval includes 0)"
    if size == "0.0":
        return f"as accurate as {other}{note}"
    return f"{size} points {'below' if each.difference < 0 else 'above'} {other}{note}"
