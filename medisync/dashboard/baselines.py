"""The federated model beside what it is compared with: records -> a matrix and a table; no streamlit, no torch."""

import plotly.graph_objects as go
from pandas.io.formats.style import Styler

from medisync.dashboard.charts import GLOBAL, NEUTRAL, Chart, layout
from medisync.dashboard.tables import style
from medisync.dashboard.words import axis_label, escape, interval, percent, plain
from medisync.records import BaselineModel, BaselineRecord, PairedDifference

EVERYWHERE = "All hospitals"


def name(kind: str, trained_at: list[str]) -> str:
    """`Federated`, `Pooled`, `AIIMS Delhi alone`; a federation without one hospital by those who are left."""
    hospitals = " and ".join(plain(hospital, 40) for hospital in trained_at)
    return {"local": f"{hospitals} alone", "without": f"{hospitals} only"}.get(kind, kind.capitalize())


def matrix(record: BaselineRecord) -> Chart:
    """Test accuracy of each model (row) on each hospital's test scans (column)."""
    places = [EVERYWHERE, *record.models[0].hospitals]
    cells = [[each.test, *each.hospitals.values()] for each in record.models]
    figure = go.Figure(
        go.Heatmap(
            z=[[scores.accuracy for scores in row] for row in cells],
            x=[axis_label(place) for place in places],
            y=[axis_label(name(each.kind, each.trained_at)) for each in record.models],
            text=[[percent(scores.accuracy) for scores in row] for row in cells],
            customdata=[[interval(scores.intervals.get("accuracy")) for scores in row] for row in cells],
            texttemplate="%{text}",
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="trained: %{y}<br>tested: %{x}<br>%{text}<br>%{customdata}<extra></extra>",
        )
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Chart(
        _title(record),
        layout(figure, x="Tested at", y="Trained by", height=140 + 52 * len(record.models)),
        "Test accuracy by model and hospital. " + "; ".join(map(_words, record.models)),
    )


def at_hospital(record: BaselineRecord, hospital: str) -> Chart:
    """Test accuracy at one hospital: of the federated model, its own, and each other that was trained."""
    chosen = [each for each in record.models if each.hospitals[hospital].accuracy is not None]
    names = [axis_label(name(each.kind, each.trained_at)) for each in chosen]
    figure = go.Figure()
    for label, each in zip(names, chosen, strict=True):
        figure.add_scatter(**_point(label, each, hospital))
    figure.update_layout(showlegend=False)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(tickformat=".0%")
    spoken = [f"{name(each.kind, each.trained_at)} {percent(each.hospitals[hospital].accuracy)}" for each in chosen]
    return Chart(
        _own_title(record, hospital),
        layout(figure, x="Test accuracy here (95 % interval)", height=130 + 44 * len(chosen)),
        f"Test accuracy at {plain(hospital)}: {'; '.join(spoken)}",
    )


def _point(label: str, each: BaselineModel, hospital: str) -> dict[str, object]:
    scores = each.hospitals[hospital]
    accuracy, found = scores.accuracy or 0.0, scores.intervals.get("accuracy")
    bars = {"array": [found.high - accuracy], "arrayminus": [accuracy - found.low]} if found else {"array": [0]}
    colour = GLOBAL if each.kind == "federated" else NEUTRAL
    return {
        "x": [accuracy],
        "y": [label],
        "mode": "markers",
        "error_x": {"type": "data", "symmetric": False, **bars, "color": colour, "thickness": 2, "width": 6},
        "marker": {"color": colour, "symbol": "diamond" if each.trained_at == [hospital] else "circle", "size": 12},
        "hovertemplate": f"{label}<br>{percent(accuracy)}<br>{interval(found)}<extra></extra>",
    }


def _own_title(record: BaselineRecord, hospital: str) -> str:
    """What the hospital asks first: does federating beat what it can do alone."""
    own = [each for each in record.differences if each.kind == "local" and each.trained_at == [hospital]]
    here = [each for each in own if each.hospital == hospital]
    if not here:
        return "The global model against the others, here"
    points = 100 * here[0].difference
    return f"Federated is {abs(points):.1f} points {'below' if points < 0 else 'above'} the hospital's own model"


def _words(each: BaselineModel) -> str:
    figures = [f"{plain(place)} {percent(scores.accuracy)}" for place, scores in each.hospitals.items()]
    return f"{name(each.kind, each.trained_at)}: all hospitals {percent(each.test.accuracy)}, {', '.join(figures)}"


def _title(record: BaselineRecord) -> str:
    """What most readers ask first: what it costs not to pool the scans."""
    pooled = [each for each in record.differences if each.kind == "pooled" and each.hospital not in _hospitals(record)]
    if not pooled:
        return "Test accuracy of each model at each hospital"
    points = 100 * pooled[0].difference
    worse = "below" if points < 0 else "above"
    return f"Federated is {abs(points):.1f} points {worse} pooled training (95 %: {_range(pooled[0])})"


def _hospitals(record: BaselineRecord) -> set[str]:
    return set(record.models[0].hospitals)


def _range(difference: PairedDifference) -> str:
    return f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"


def differences(record: BaselineRecord) -> Styler:
    """Federated minus each other model on the same scans, in percentage points."""
    rows = [
        {
            "Federated against": escape(name(each.kind, each.trained_at)),
            "Test scans of": escape(each.hospital[:1].upper() + each.hospital[1:]),
            "Points": f"{100 * each.difference:+.1f}",
            "95 % interval": _range(each),
            "Beyond chance": "yes" if each.low > 0 or each.high < 0 else "no",
        }
        for each in record.differences
    ]
    return style(rows)
