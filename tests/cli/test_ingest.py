"""`medisync ingest` as a person types it: exit codes, what is said, the key, the rules."""

import stat
from pathlib import Path

import pytest
from exports import T1, T2, uid, write_labels, write_series

from medisync.cli.main import main
from medisync.ingest import rules


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_series(tmp_path / "export", 1, 1, 6, T1)
    write_series(tmp_path / "export", 1, 2, 6, T2)
    write_labels(tmp_path / "labels.csv", (uid(1), "glioma"), (uid(2), "glioma"))
    (tmp_path / "export/notes.txt").write_text("a note")
    return tmp_path


def run(root: Path, *options: object, labels: str = "labels.csv") -> int:
    given = ["--workspace", root, "--dicom", root / "export", "--labels", root / labels, "--to", "dataset/north"]
    return main(["ingest", *map(str, [*given, *options])])


def test_it_says_what_was_taken_and_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("made the secret key ")
    assert said[1:-1] == [
        "read 13 files, took slices of 4",
        "added 4 slices (glioma 4)",
        "these are of 1 patient",
        "left out 8 slices of the outer two thirds",
        "left out 1 text file",
        "labels: 1 of 2 lines cannot be used; what they name is in quarantine",
        "labels: line 3 names nothing that is in the folder",
    ]
    assert "north-ingest.csv" in said[-1]
    assert stat.S_IMODE((root / "pseudonyms.key").stat().st_mode) == 0o600


def test_a_second_time_adds_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root) == 0
    capsys.readouterr()
    assert run(root) == 0
    said = capsys.readouterr().out
    assert "added 0 slices; 4 were there already" in said
    assert "secret key" not in said


def test_rules_of_its_own_replace_those_of_the_program(root: Path) -> None:
    shipped = rules.DEFAULT.read_text()
    (root / "rules.toml").write_text(
        shipped[: shipped.index("\n[[exclude]]")] + "\n[[sequence]]\nname = 'own'\ntext = 't2'\n"
    )
    assert run(root, "--rules", root / "rules.toml") == 0
    assert {file.name.split("-")[0] for file in (root / "dataset/north").rglob("*.png")} == {"own"}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--dicom", "nowhere"], 2, "--dicom: nowhere is no folder"),
        (["--to", "export/north"], 2, "outside the folder of the export"),
        (["--labels", "nowhere.csv"], 1, "cannot be read"),
        (["--rules", "nowhere.toml"], 2, "cannot be read"),
        (["--secret", "labels.csv"], 2, "chmod 600"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    root: Path,
    options: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(root)
    assert run(root, *options) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (root / "dataset").exists()


def test_nothing_to_write_is_an_error_with_its_reasons(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(root / "labels.csv", (uid(2), "glioma"))
    assert run(root) == 1
    said = capsys.readouterr().err
    assert "no slice to write" in said
    assert "left out 12 images without label in the table" in said
    assert not (root / "dataset/north").exists()
