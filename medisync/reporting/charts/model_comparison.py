"""The federated model beside what it is compared with: records -> charts and a table; no streamlit, no torch."""

from collections.abc import Sequence

from pandas.io.formats.style import Styler

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
from medisync.reporting.formatting import axis_label, escape, interval, percent, plain
from medisync.reporting.tables.metric_tables import style
from medisync.schemas import BaselineModel, BaselineRecord, PairedDifference

EVERYWHERE = "All hospitals"


def name(kind: str, trained_at: Sequence[str]) -> str:
    """`Federated`, `Pooled`, `AIIMS Delhi alone`; a federation without one hospital by those who are left."""
    hospitals = " and ".join(plain(hospital, 40) for hospital in trained_at)
    return {"local": f"{hospitals} alone", "leave-one-out": f"{hospitals} only"}.get(kind, kind.capitalize())


def accuracy_matrix(record: BaselineRecord) -> Chart:
    """Test accuracy of each model (row) on each hospital's test scans (column)."""
    places = [EVERYWHERE, *record.models[0].hospitals]
    cells = [[each.test, *each.hospitals.values()] for each in record.models]
    figure = matrix(
        [[metrics.accuracy for metrics in row] for row in cells],
        [axis_label(place, 9) for place in places],
        [axis_label(name(each.kind, each.trained_at)) for each in record.models],
        text=[[percent(metrics.accuracy) for metrics in row] for row in cells],
        customdata=[[interval(metrics.intervals.get("accuracy")) for metrics in row] for row in cells],
        texttemplate="%{text}",
        zmin=0,
        zmax=1,
        hovertemplate="trained: %{y}<br>tested: %{x}<br>%{text}<br>%{customdata}<extra></extra>",
    )
    return Chart(
        "Test accuracy of each model at each hospital",
        layout(figure, x="Tested at", y="Trained by", height=140 + 52 * len(record.models)),
        "Test accuracy by model and hospital. " + "; ".join(map(_words, record.models)),
    )


def _words(each: BaselineModel) -> str:
    figures = [f"{plain(place)} {percent(metrics.accuracy)}" for place, metrics in each.hospitals.items()]
    return f"{name(each.kind, each.trained_at)}: all hospitals {percent(each.test.accuracy)}, {', '.join(figures)}"


def accuracies(record: BaselineRecord, hospital: str | None = None) -> Chart:
    """Test accuracy, of one hospital's scans or of all: the federated model, then each other."""
    tested = [(each, each.hospitals[hospital] if hospital else each.test) for each in record.models]
    known = [(each, metrics) for each, metrics in tested if metrics.accuracy is not None]
    hospitals = list(record.models[0].hospitals)
    rows = [(axis_label(name(each.kind, each.trained_at)), metrics, *_look(each, hospitals)) for each, metrics in known]
    spoken = [f"{name(each.kind, each.trained_at)} {percent(metrics.accuracy)}" for each, metrics in known]
    return Chart(
        _own_title(record, hospital) if hospital else _title(record),
        scores(rows, f"Test accuracy{' here' if hospital else ''} (95 % interval)"),
        f"Test accuracy at {plain(hospital) if hospital else 'all hospitals'}: {'; '.join(spoken)}",
    )


def _look(each: BaselineModel, hospitals: Sequence[str]) -> tuple[str, str]:
    """Colour and symbol: a hospital's own model looks like the hospital."""
    if each.kind == "federated":
        return GLOBAL, GLOBAL_SYMBOL
    if each.kind == "local":
        (at,) = each.trained_at
        return hospital_colours(hospitals)[at], hospital_symbols(hospitals)[at]
    return NEUTRAL, NEUTRAL_SYMBOL


def _title(record: BaselineRecord) -> str:
    """What most readers ask first: is federating worth it, and what does it cost not to pool the scans."""
    everywhere = [each for each in record.differences if each.hospital not in record.models[0].hospitals]
    local = [each for each in everywhere if each.kind == "local"]
    pooled = [each for each in everywhere if each.kind == "pooled"]
    better = sum(each.low > 0 for each in local)
    said = [f"better than {better} of {len(local)} hospitals alone"] if local else []
    said += [_against(each, "pooled training") for each in pooled]
    return f"Over all hospitals, federated is {', '.join(said)}" if said else "Test accuracy over all hospitals"


def _own_title(record: BaselineRecord, hospital: str) -> str:
    """What the hospital asks first: does federating beat what it can do alone."""
    own = [each for each in record.differences if each.kind == "local" and each.trained_at == [hospital]]
    here = [each for each in own if each.hospital == hospital]
    if not here:
        return "The global model against the others, here"
    against = _against(here[0], "the hospital's own model")
    return f"Here, federated is {against}"


def _against(each: PairedDifference, other: str) -> str:
    points = 100 * each.difference
    doubt = "" if _is_beyond_chance(each) else " (may be chance)"
    return f"{abs(points):.1f} points {'below' if points < 0 else 'above'} {other}{doubt}"


def _is_beyond_chance(each: PairedDifference) -> bool:
    return each.low > 0 or each.high < 0


def differences(record: BaselineRecord) -> Styler:
    """Federated minus each other model on the same scans, in percentage points."""
    rows = [
        {
            "Federated against": escape(name(each.kind, each.trained_at)),
            "Test scans of": escape(each.hospital[:1].upper() + each.hospital[1:]),
            "Points": f"{100 * each.difference:+.1f}",
            "95 % interval": f"{100 * each.low:+.1f} to {100 * each.high:+.1f}",
            "Beyond chance": "yes" if _is_beyond_chance(each) else "no",
        }
        for each in record.differences
    ]
    return style(rows)
