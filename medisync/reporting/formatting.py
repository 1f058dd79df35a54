"""Numbers, times and other people's text in words, for tables, charts and pages alike; no streamlit, no torch.

Text that comes from outside (folder, file and hospital names, notes) is escaped, because Streamlit reads labels and
table cells as Markdown.
"""

import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape as escape_html

from medisync.schemas import Interval, Label

NO_VALUE = "–"


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
"""In plotly's HTML, for an axis that must stay level on a phone."""


def plausible(labels: Sequence[Label]) -> str:
    """A prediction set as a sentence: `Glioma, no other class is plausible.`, `Glioma or meningioma.`"""
    if len(labels) == len(CLASS_NAMES):
        return "Every class is plausible: the model cannot tell."
    names = [CLASS_NAMES[label].lower() for label in labels]
    if len(names) == 1:
        return f"{names[0].capitalize()}; no other class is plausible."
    return f"{', '.join(names[:-1])} or {names[-1]}.".capitalize()


def percent(fraction: float | None) -> str:
    return NO_VALUE if fraction is None else f"{fraction * 100:.1f}\N{NO-BREAK SPACE}%"


def interval(found: Interval | None) -> str:
    return f"{found.low * 100:.1f} to {percent(found.high)}" if found else ""


def count(number: int, thing: str, plural: str = "") -> str:
    return f"{number:,} {thing if number == 1 else plural or thing + 's'}"


def moment(iso: str) -> str:
    """`24 Nov 2026, 14:02 UTC` from ISO 8601; what is no such time is shown as it is."""
    try:
        return f"{datetime.fromisoformat(iso):%-d %b %Y, %H:%M %Z}".rstrip()
    except ValueError:
        return escape(iso)


def day(iso: str) -> str:
    return moment(iso).split(",")[0]


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(size: int) -> str:
    """Of 10^6 bytes, from 10,000 on of 10^9; a dash for nothing, because runs from before it was counted have 0."""
    if size >= 1e10:
        return f"{size / 1e9:,.1f}\N{NO-BREAK SPACE}GB"
    return f"{size / 1e6:,.1f}\N{NO-BREAK SPACE}MB" if size else NO_VALUE


def scope_name(hospital: str | None) -> str:
    return plain(hospital, 60) if hospital else "All hospitals"


def escape(text: str) -> str:
    """`text` with nothing left in it that Markdown, or Streamlit's own directives, would act on."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:&-])", r"\\\1", plain(text))


def plain(text: str, limit: int = 200) -> str:
    """One line without control, bidirectional or other invisible characters, cut to `limit`."""
    visible = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    return visible if len(visible) <= limit else f"{visible[: limit - 1]}…"


def sentence(text: str) -> str:
    """`text` with a capital and a full stop, escaped."""
    return escape(text[:1].upper() + text[1:]).rstrip(".") + "."


def axis_label(name: str, width: int = 14) -> str:
    """A hospital's name as an axis label: safe in plotly's HTML, and broken into lines so that phones have room."""
    return "<br>".join(escape_html(line) for line in textwrap.wrap(plain(name, 40), width))
