"""Adaptations are found by their hospital's name, and refused if they are damaged, edited or for another model."""

import json
import unicodedata
from pathlib import Path

import factories
import pytest

from medisync.errors import ConfigError, ModelError
from medisync.workspace import adaptations

MODEL = "a" * 64


def test_an_adaptation_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = factories.adaptation("South Clinic", MODEL)
    file = adaptations.write(tmp_path, record)
    assert file.name == "adaptation-south-clinic.json"
    assert adaptations.find(tmp_path, "South Clinic", MODEL) == record
    assert adaptations.find(tmp_path, "North", MODEL) is None
    adaptations.write(tmp_path, record.model_copy(update={"scans": 99}))
    assert [each.scans for each in adaptations.usable(tmp_path, MODEL)] == [99]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "CON", ".", "東京大学病院", "x" * 80, "Charité", "a/b\\c", "adaptation"]
)
def test_any_name_has_one_file_beside_the_model(tmp_path: Path, name: str) -> None:
    record = factories.adaptation(adaptations.checked_name(name), MODEL)
    file = adaptations.write(tmp_path / "models", record)
    assert file.parent == tmp_path / "models"
    assert file.name.isascii()
    assert [path.name for path in tmp_path.rglob("*.json")] == [file.name]
    assert adaptations.find(tmp_path / "models", unicodedata.normalize("NFD", name), MODEL) == record


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "two\nlines", "\u202eNorth", "\x1b[2J", "zero\u200bwidth"])
def test_a_name_that_cannot_be_seen_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a hospital, of 1 to 80 characters that can be seen"):
        adaptations.checked_name(name)


def test_an_adaptation_for_another_model_is_refused(tmp_path: Path) -> None:
    adaptations.write(tmp_path, factories.adaptation("South", MODEL))
    with pytest.raises(ModelError) as error:
        adaptations.find(tmp_path, "South", "b" * 64)
    assert str(error.value) == (
        "adaptation-south.json is for another model (its SHA-256 begins with aaaaaaaa, this model's with bbbbbbbb);"
        " estimate it anew with `medisync adapt DIR --name South`"
    )
    assert adaptations.usable(tmp_path, "b" * 64) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "adaptation-south.json is damaged"),
        (lambda text: "[]", "adaptation-south.json is damaged"),
        (lambda text: text.replace('"notumor"', '"no tumour"'), "adaptation-south.json is damaged"),
        (lambda text: text.replace('"scans": 60', '"scans": 61'), "was changed after it was written"),
        (lambda text: text.replace("1.5", "15"), "was changed after it was written"),
    ],
    ids=["half", "other JSON", "class", "count", "threshold"],
)
def test_a_damaged_or_edited_file_is_refused(tmp_path: Path, damage: object, reason: str) -> None:
    file = adaptations.write(tmp_path, factories.adaptation("South", MODEL))
    text = file.read_text()
    file.write_text(damage(text))  # type: ignore[operator]
    assert file.read_text() != text
    with pytest.raises(ModelError, match=f"{reason}.*; estimate it anew with `medisync adapt DIR --name"):
        adaptations.find(tmp_path, "South", MODEL)
    assert adaptations.usable(tmp_path, MODEL) == []


def test_a_renamed_file_is_refused(tmp_path: Path) -> None:
    adaptations.write(tmp_path, factories.adaptation("South", MODEL)).rename(tmp_path / "adaptation-north.json")
    with pytest.raises(ModelError, match="was renamed: it is for 'South'"):
        adaptations.find(tmp_path, "North", MODEL)


def test_a_copy_with_other_spaces_is_the_same_record(tmp_path: Path) -> None:
    file = adaptations.write(tmp_path, factories.adaptation("South", MODEL))
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert adaptations.find(tmp_path, "South", MODEL) == factories.adaptation("South", MODEL)
