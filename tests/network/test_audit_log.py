"""The audit log: every tampering is found, a crash is recovered, and rotation keeps the chain."""

import json
import multiprocessing
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medisync.cli.main import main
from medisync.errors import ArtifactError
from medisync.network import setup
from medisync.network.audit_log import START, AuditLog, Seal, files, verify

MOMENT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def log_at(folder: Path, most_bytes: int = 1500, most_files: int = 8) -> AuditLog:
    return AuditLog(folder, lambda: MOMENT, most_bytes=most_bytes, most_files=most_files)


def written(folder: Path, lines: int = 40, most_files: int = 8) -> Seal:
    log = log_at(folder, most_files=most_files)
    return [log.append({"event": "in", "round": number}) for number in range(lines)][-1]


def test_a_line_holds_the_hash_of_the_line_before(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, lambda: MOMENT)
    first, second = log.append({"event": "in"}), log.append({"event": "out"})
    lines = [json.loads(line) for line in (tmp_path / "audit-000001.jsonl").read_text().splitlines()]
    assert lines == [
        {"line": 1, "previous": START, "time": "2026-11-28T12:00:00.000+00:00", "event": "in"},
        {"line": 2, "previous": first.sha256, "time": "2026-11-28T12:00:00.000+00:00", "event": "out"},
    ]
    assert verify(tmp_path, [first, second]) == second
    assert verify(tmp_path / "nothing") == Seal(0, START)


def change_a_byte(file: Path, lines: list[bytes], chance: random.Random) -> None:
    place = chance.randrange(len(lines))
    position = chance.randrange(len(lines[place]))
    new = chance.choice([value for value in range(32, 127) if value != lines[place][position]])
    lines[place] = lines[place][:position] + bytes([new]) + lines[place][position + 1 :]


def change_a_value(file: Path, lines: list[bytes], chance: random.Random) -> None:
    """Rewrites a line as a whole one, as somebody would who knows the format."""
    place = chance.randrange(len(lines))
    entry = json.loads(lines[place]) | {"round": 1000}
    lines[place] = json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def remove_a_line(file: Path, lines: list[bytes], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def repeat_a_line(file: Path, lines: list[bytes], chance: random.Random) -> None:
    place = chance.randrange(len(lines))
    lines.insert(chance.randrange(len(lines) + 1), lines[place])


def exchange_lines(file: Path, lines: list[bytes], chance: random.Random) -> None:
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]


def cut_off_the_end(file: Path, lines: list[bytes], chance: random.Random) -> None:
    """Also of a file that others follow, whose first line then follows nothing."""
    del lines[chance.randrange(len(lines)) :]


TAMPERINGS = (change_a_byte, change_a_value, remove_a_line, repeat_a_line, exchange_lines, cut_off_the_end)


def test_100_of_100_random_tamperings_are_found(tmp_path: Path) -> None:
    """In a random one of several files, held against the seal of the last line."""
    seal = written(tmp_path / "log")
    assert len(files(tmp_path / "log")) > 3
    assert verify(tmp_path / "log", [seal]) == seal
    missed = [seed for seed in range(100) if not is_found(tmp_path / "log", tmp_path / str(seed), seal, seed)]
    assert missed == []


def is_found(log: Path, copy: Path, seal: Seal, seed: int) -> bool:
    chance = random.Random(seed)
    tamper: Callable[[Path, list[bytes], random.Random], None] = TAMPERINGS[seed % len(TAMPERINGS)]
    shutil.copytree(log, copy)
    file = chance.choice(files(copy))
    before = file.read_bytes().splitlines(keepends=True)
    lines = list(before)
    while lines == before:
        tamper(file, lines, chance)
    file.write_bytes(b"".join(lines))
    try:
        verify(copy, [seal])
    except ArtifactError:
        return True
    return False


def test_the_first_line_at_fault_is_named(tmp_path: Path) -> None:
    written(tmp_path, 3)
    file = tmp_path / "audit-000001.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1].replace(b'"round":1', b'"round":7') + lines[2])
    with pytest.raises(
        ArtifactError, match=r"audit-000001.jsonl, line 3: line 2 of the log is not the one that it foll"
    ):
        verify(tmp_path)
    file.write_bytes(lines[0] + lines[2])
    with pytest.raises(ArtifactError, match=r"audit-000001.jsonl, line 2: is line 3 of the log where line 2 belongs"):
        verify(tmp_path)
    file.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(ArtifactError, match=r"audit-000001.jsonl, line 2: is not a whole line of an audit log"):
        verify(tmp_path)


def test_a_cut_end_is_found_against_the_seal_that_the_server_kept(tmp_path: Path) -> None:
    seal = written(tmp_path, 3)
    file = tmp_path / "audit-000001.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    assert verify(tmp_path).line == 2  # a chain alone cannot show it
    with pytest.raises(ArtifactError, match="the log ends at line 2, but the server was given the SHA-256 of line 3"):
        verify(tmp_path, [seal])
    log_at(tmp_path).append({"event": "out"})
    with pytest.raises(ArtifactError, match=r"line 3: is not the line 3 whose SHA-256 the server was given"):
        verify(tmp_path, [seal])


def test_a_removed_file_is_found(tmp_path: Path) -> None:
    written(tmp_path)
    files(tmp_path)[0].unlink()
    with pytest.raises(ArtifactError, match=r"the log begins at line \d+, and no line says why"):
        verify(tmp_path)


def test_rotation_keeps_the_chain_and_bounds_the_size(tmp_path: Path) -> None:
    seal = written(tmp_path, 400, most_files=3)
    assert len(files(tmp_path)) == 3
    assert all(file.stat().st_size < 1500 + 600 for file in files(tmp_path))
    assert seal.line > 400  # lines about dropped files count
    assert verify(tmp_path, [seal]) == seal
    files(tmp_path)[0].unlink()
    with pytest.raises(ArtifactError, match="no line says why"):
        verify(tmp_path)


@pytest.mark.parametrize("kept", [1, 60, -1])
def test_a_crash_in_the_middle_of_a_line_is_recovered_and_recorded(tmp_path: Path, kept: int) -> None:
    written(tmp_path, 2)
    file = tmp_path / "audit-000001.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second[:kept])
    seal = log_at(tmp_path).append({"event": "in", "round": 5})
    assert verify(tmp_path, [seal]) == seal == Seal(3, seal.sha256)
    recovered = json.loads(file.read_bytes().splitlines()[1])
    assert (recovered["event"], recovered["bytes"]) == ("recovered", len(second[:kept]))


def test_a_crash_after_a_new_file_was_made_is_recovered(tmp_path: Path) -> None:
    before = written(tmp_path)
    (tmp_path / "audit-000099.jsonl").touch()
    seal = log_at(tmp_path).append({"event": "in"})
    assert seal.line == before.line + 1
    assert verify(tmp_path, [before, seal]) == seal


def test_a_damaged_end_stops_the_log(tmp_path: Path) -> None:
    written(tmp_path, 2)
    with (tmp_path / "audit-000001.jsonl").open("ab") as file:
        file.write(b"something\n")
    with pytest.raises(ArtifactError, match="the last line of the audit log is damaged"):
        log_at(tmp_path).append({"event": "in"})


def _append_many(folder: Path) -> None:
    for number in range(20):
        log_at(folder).append({"event": "in", "round": number})


def test_several_processes_may_append(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=_append_many, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert verify(tmp_path).line == 40


def test_the_command_names_the_first_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medisync import notebook

    made = setup.make(tmp_path / "federation", "127.0.0.1:9443", notebook.configuration().hospitals)
    file = next(iter(made.hospitals.values()))
    log = file.parent / "state" / "audit-log"
    seal, seals = written(log, 3), tmp_path / "seals.jsonl"
    seals.write_text(json.dumps({"run": "run-001", "line": seal.line, "sha256": seal.sha256}) + "\n")
    command = ["federation", "audit-log", "verify", str(file)]
    assert main(command) == 0
    assert "3 lines, none edited, removed or moved (without the server's seals" in capsys.readouterr().out
    assert main([*command, "--seals", str(seals)]) == 0
    assert f"held against 1 seals of the server); the last has SHA-256 {seal.sha256}" in capsys.readouterr().out
    lines = (log / "audit-000001.jsonl").read_bytes().splitlines(keepends=True)
    (log / "audit-000001.jsonl").write_bytes(b"".join(lines[:2]))
    assert main([*command, "--seals", str(seals)]) == 1
    assert "the log ends at line 2" in capsys.readouterr().err
