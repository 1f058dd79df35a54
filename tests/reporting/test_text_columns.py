"""Tables in a terminal: columns line up, fit the width, and show what differs."""

import pytest

from medisync.reporting.text_columns import display_width, lined_up, pad

ROWS = [("", "run-001", "run-002"), ("rounds", "600", "3"), ("東京大学病院: test accuracy", "89.6 %", "90.1 %")]


def test_columns_line_up_with_characters_that_take_two_columns() -> None:
    assert display_width("東京") == 4
    assert pad("東京", 6) + "|" == "東京  |"
    assert display_width("e\u0301") == 1  # an accent takes no column
    lines = lined_up(ROWS).splitlines()
    places = [
        display_width(line[: line.index(value)]) for line, value in zip(lines, ("run-001", "600", "89.6"), strict=True)
    ]
    assert places == [29, 29, 29]  # 12 columns for six characters, 15 for ": test accuracy", and the gap


def test_a_table_that_fits_is_not_changed() -> None:
    assert lined_up(ROWS, 80) == lined_up(ROWS)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_long_values_fit_the_terminal_and_show_what_differs(width: int) -> None:
    long = "[" + "'glioma', " * 300
    rows = [("", "run-001", "run-002"), ("hospitals", f"{long}'yes' and more{long}", f"{long}'no' and more{long}")]
    shown = lined_up([*rows, ("東" * 60, "1", "2")], width).splitlines()
    assert max(map(display_width, shown)) <= width
    assert len(shown) < 40
    columns = "".join(line.replace(" ", "") for line in shown)
    assert "'yes'" in columns or ("'ye" in columns and "s'" in columns)
    assert "…" in columns
    assert "東" * 3 in columns


def test_everything_is_shown_where_no_width_is_given() -> None:
    assert "x" * 2000 in lined_up([("", "a", "b"), ("note", "x" * 2000, "y")])
