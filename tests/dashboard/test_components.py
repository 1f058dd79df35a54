"""Tables on pages: text from outside is shown as it is written, not as Markdown."""

from typing import Any

import pandas as pd
import pytest

from medisync.dashboard import components


def test_headings_and_cells_of_a_table_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(components.st, "table", lambda shown, **options: drawn.append((shown, options)))
    found = pd.DataFrame({"*North*": ["[link](http://y)"]}, pd.Index(["scans_*misc*"], name="Folder"))
    components.table(found, "Folders")
    ((shown, options),) = drawn
    assert shown.data.columns.tolist() == ["Folder", r"\*North\*"]
    cells = [cell["display_value"] for cell in shown._translate(False, False)["body"][0] if cell["type"] == "td"]
    assert cells == [r"scans\_\*misc\*", r"\[link\]\(http\://y\)"]
    assert options["hide_index"]
    assert options["alt"] == "Folders"
