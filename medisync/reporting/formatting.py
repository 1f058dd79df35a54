"""The one place that formats numbers, times, model names and class names, and makes text from outside safe to show.

Used by tables, charts, pages, the model card, the PDF report and the command line. Text from outside (folder, file and
hospital names, notes) is escaped where Markdown is rendered, because Streamlit reads labels and table cells as Markdown.
"""

import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape as escape_html

from medisync.schemas import ClassMetrics, Interval, Label, Metrics, SelectiveMetrics

NO_VALUE = "–"
"""Stands for an undefined or missing value everywhere."""

ALL_HOSPITALS = "All hospitals"

RESEARCH_ONLY = "Research use only, not a diagnosis."

CLASS_NAMES: Mapping[Label, str] = {
    "glioma": "Glioma",
    "meningioma": "Meningioma",
    "pituitary": "Pituitary tumour",
    "notumor": "No tumour",
}

NARROW_CLASS_NAMES: Mapping[Label, str] = {
    "glioma": "Glioma",
    "meningioma": "Menin-<br>gioma",
    "pituitary": "Pituitary<br>tumour",
    "notumor": "No<br>tumour",
}
"""Class names in plotly's HTML, for an axis whose labels must stay horizontal on a phone."""

OUT_OF_DISTRIBUTION = "Out of distribution: this scan does not resemble the training scans."


def percent(fraction: float | None) -> str:
    """Returns `89.6 %` for 0.896."""
    return NO_VALUE if fraction is None else f"{fraction * 100:.1f}\N{NO-BREAK SPACE}%"


def limit(fraction: float | None) -> str:
    """Returns a limit or a threshold without needless decimals: `5 %` for 0.05."""
    return NO_VALUE if fraction is None else f"{fraction * 100:.6g}\N{NO-BREAK SPACE}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """Returns a quantity that is not a percentage (AUC, Brier score, loss) with a fixed number of decimals."""
    return NO_VALUE if value is None else f"{value:.{digits}f}"


def interval(found: Interval | None) -> str:
    """Returns `86.6 to 92.1 %`; empty where there is no interval."""
    return f"{found.low * 100:.1f} to {percent(found.high)}" if found else ""


def with_interval(metrics: Metrics | ClassMetrics | SelectiveMetrics | None, name: str) -> str:
    """Returns a fraction of `metrics` with its interval, such as `89.6 % (86.6 to 92.1)`."""
    if metrics is None:
        return NO_VALUE
    found, shown = metrics.intervals.get(name), percent(getattr(metrics, name))
    return f"{shown} {_bracketed(f'{100 * found.low:.1f}', f'{100 * found.high:.1f}')}" if found else shown


def _bracketed(low: str, high: str) -> str:
    """Returns an interval in brackets that a narrow column does not break."""
    return f"({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")


def auc_with_interval(metrics: Metrics | ClassMetrics, name: str) -> str:
    """Returns an area under the ROC curve of `metrics` with its interval, such as `0.971 (0.959 to 0.982)`."""
    return area(getattr(metrics, name), metrics.intervals.get(name))


def area(value: float | None, found: Interval | None) -> str:
    """Returns an area under the ROC curve with its interval, if it has one: `0.971 (0.959 to 0.982)`."""
    return f"{decimal(value)} {_bracketed(decimal(found.low), decimal(found.high))}" if found else decimal(value)


def points(difference: float) -> str:
    """Returns a difference of two fractions in percentage points, with its sign: `+12.4`."""
    return f"{100 * difference:+.1f}"


def p_value(p: float) -> str:
    """Returns `0.210`, or `< 0.001` for anything smaller."""
    return "< 0.001" if p < 0.001 else decimal(p)


def number(value: int) -> str:
    """Returns a count with thousands separators: `5,899`."""
    return f"{value:,}"


def count(value: int, thing: str, plural: str = "") -> str:
    """Returns a count with its noun: `1 scan`, `5,899 scans`."""
    return f"{number(value)} {thing if value == 1 else plural or thing + 's'}"


def moment(iso: str) -> str:
    """Returns `24 Nov 2026, 14:02 UTC` for an ISO 8601 time; text that is not a time is returned escaped."""
    try:
        return f"{datetime.fromisoformat(iso):%-d %b %Y, %H:%M %Z}".rstrip()
    except ValueError:
        return escape(iso)


def day(iso: str) -> str:
    """Returns the date alone: `24 Nov 2026`."""
    return moment(iso).split(",")[0]


def duration(seconds: float) -> str:
    """Returns `42 s`, `4 min` or `1 h 31 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(size: int) -> str:
    """Returns a size in units of 10^6 bytes, or of 10^9 from 10^10 bytes on. Zero means "not measured": older runs have 0."""
    if size >= 1e10:
        return f"{size / 1e9:,.1f}\N{NO-BREAK SPACE}GB"
    return f"{size / 1e6:,.1f}\N{NO-BREAK SPACE}MB" if size else NO_VALUE


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def listed(names: Sequence[str], conjunction: str = "and") -> str:
    """Returns `A`, `A and B` or `A, B and C`."""
    return f" {conjunction} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def prediction_set(labels: Sequence[Label]) -> str:
    """Returns the classes of a prediction set as a sentence: `Glioma only.`, `Glioma or meningioma.`"""
    if len(labels) == len(CLASS_NAMES):
        return "All four classes: the model cannot tell them apart on this scan."
    names = [CLASS_NAMES[label].lower() for label in labels]
    said = f"{names[0]} only" if len(names) == 1 else listed(names, "or")
    return f"{said.capitalize()}."


def model_name(kind: str, trained_at: Sequence[str], hospitals: Sequence[str]) -> str:
    """Returns the name of a model of the comparison: `Federated`, `Pooled`, `AIIMS Delhi alone` or `All but AIIMS Delhi`.

    `hospitals` are all hospitals of the run.
    """
    if kind == "local":
        return f"{listed([plain(name, 40) for name in trained_at])} alone"
    if kind == "leave-one-out":
        return f"All but {listed([plain(name, 40) for name in hospitals if name not in trained_at])}"
    return kind.capitalize()


def scope_name(hospital: str | None) -> str:
    """Returns the name of a set of test scans: one hospital's, or all hospitals' for None."""
    return plain(hospital, 60) if hospital else ALL_HOSPITALS


def escape(text: str, limit: int = 200) -> str:
    """Returns `text`, cut to `limit` characters, with every one escaped that Markdown or a Streamlit directive would act on."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:&-])", r"\\\1", plain(text, limit))


def plain(text: str, limit: int = 200) -> str:
    """Returns one line without control, bidirectional or other invisible characters, cut to `limit` characters."""
    visible = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    return visible if len(visible) <= limit else f"{visible[: limit - 1]}…"


def sentence(text: str) -> str:
    """Returns `text` escaped, with a capital letter and a full stop."""
    return escape(text[:1].upper() + text[1:]).rstrip(".") + "."


def axis_label(name: str, width: int = 14) -> str:
    """Returns a name as an axis label: safe in plotly's HTML, and wrapped so that it fits on a phone."""
    return "<br>".join(escape_html(line) for line in textwrap.wrap(plain(name, 40), width))
