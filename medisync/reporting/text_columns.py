"""Tables as text for a terminal: columns that line up, also with East Asian characters, and fit its width."""

from collections.abc import Sequence

from wcwidth import wcswidth, wcwidth

GAP = "  "
LINES = 4
"""Lines that a cell takes at most where a table has to fit; what all cells of its row have in common is cut first."""
CONTEXT = 12
"""Characters shown before the first difference in a row."""


def display_width(text: str) -> int:
    """Returns the columns that `text` takes in a terminal: two for most East Asian characters."""
    width: int = wcswidth(text)
    return width if width >= 0 else len(text)


def pad(text: str, width: int) -> str:
    """Returns `text` with spaces up to a display width."""
    return text + " " * (width - display_width(text))


def lined_up(rows: Sequence[Sequence[str]], width: int = 0) -> str:
    """Returns rows of a first column, which names them, and values, as columns that are left-aligned.

    With a `width` (0: as wide as it gets), the table is at most that wide: long cells take several lines, and the longest
    are cut so that what differs within a row stays visible.
    """
    natural = [max(display_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    if not width or sum(natural) + len(GAP) * (len(natural) - 1) <= width:
        return "\n".join(_line(row, natural) for row in rows)
    widths = _shared_out(natural, max(width - len(GAP) * (len(natural) - 1), 8 * len(natural)))
    return "\n".join(line for row in rows for line in _lines(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(pad(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _shared_out(natural: Sequence[int], total: int) -> list[int]:
    """Returns widths of a sum of at most `total`: narrow columns have what they need, the others an equal part."""
    widths, left = [0] * len(natural), total
    for place, column in enumerate(sorted(range(len(natural)), key=lambda each: natural[each])):
        widths[column] = min(natural[column], left // (len(natural) - place))
        left -= widths[column]
    return widths


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Returns one row as lines."""
    name, *values = row
    shown = [name, *_excerpts(values, min(widths[1:]) * LINES // 2)]
    cells = [_wrapped(cell, width) for cell, width in zip(shown, widths, strict=True)]
    height = max(map(len, cells))
    return [
        _line(line, widths) for line in zip(*([*cell, *[""] * (height - len(cell))] for cell in cells), strict=True)
    ]


def _excerpts(values: Sequence[str], limit: int) -> list[str]:
    """Returns values of at most `limit` characters (at least 3 more than CONTEXT), with their first difference in view."""
    limit = max(limit, CONTEXT + 3)
    if max(map(len, values)) <= limit:
        return list(values)
    places = enumerate(zip(*values, strict=False))
    differs = next((place for place, found in places if len(set(found)) > 1), min(map(len, values)))
    start = max(0, differs - CONTEXT)
    rest = [f"…{value[start:]}" if start else value for value in values]
    return [value if len(value) <= limit else f"{value[: limit - 1]}…" for value in rest]


def _wrapped(text: str, width: int) -> list[str]:
    """Returns `text` in lines of at most `width` columns, broken at spaces where there are some."""
    lines = [""]
    for word in text.split(" "):
        spaced = f"{lines[-1]} {word}" if lines[-1] else word
        if display_width(spaced) <= width:
            lines[-1] = spaced
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if display_width(lines[-1]) + max(0, wcwidth(character)) > width:
                lines.append("")
            lines[-1] += character
    return lines
