"""Faults in a networked federation, with real processes: nobody waits for ever, and whoever is left out is named."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from process_list import END_SECONDS, running_with

from medisync import notebook
from medisync.cli.main import main
from medisync.config import DEMO_PARAMETERS
from medisync.network import credentials, loopback, settings, setup
from medisync.network.policy import beside
from medisync.phantom.hospitals import write_hospitals
from medisync.workspace import artifacts

ROOT = Path(__file__).parent.parent.parent
PARAMETERS = {**DEMO_PARAMETERS, "IMAGE_SIZE": 32, "DEVICE": "cpu", "ROUNDS": 90, "PATIENCE": 90, "ROUND_DEADLINE": 40}
"""More rounds than the story takes: it ends the run."""
AIIMS, NIMHANS, TATA = (hospital.name for hospital in notebook.configuration().hospitals)


class Command:
    """A `medisync federation` command in a process group of its own, whose output is read line by line."""

    def __init__(self, *arguments: object, project: Path = ROOT) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "medisync", "federation", *map(str, arguments)],
            cwd=project,  # Python looks for the package there first
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(project)},
            start_new_session=True,
        )
        self.said: list[str] = []

    def until(self, pattern: str) -> str:
        """Returns the next line that matches `pattern`; the test run's own limit bounds the wait."""
        for line in self.process.stdout or ():
            self.said.append(line.rstrip())
            if re.search(pattern, line):
                return line
        pytest.fail(f"ended before a line matched {pattern!r}:\n" + "\n".join(self.said[-20:]))

    def end(self) -> tuple[int, str]:
        """Waits until it has ended by itself; returns its exit status and last line."""
        if self.process.stdout and not self.process.stdout.closed:
            self.said += (line.rstrip() for line in self.process.stdout)
            self.process.stdout.close()
        return self.process.wait(), next(line for line in reversed(self.said) if line)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal_all(signal.SIGCONT)  # a failed test may leave it frozen
        self.process.terminate()
        self.end()

    def signal_all(self, number: signal.Signals) -> None:
        """Signals the command and every process below it, as if their machine froze or lost power."""
        for process in family(self.process.pid):
            os.kill(process, number)


def family(root: int) -> list[int]:
    """Returns the process `root` and its descendants."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [tuple(map(int, line.split())) for line in lines]
    found = [root]
    for parent in found:
        found += (process for process, above in pairs if above == parent)
    return found


@contextmanager
def running(*arguments: object, project: Path = ROOT) -> Iterator[Command]:
    command = Command(*arguments, project=project)
    try:
        yield command
    finally:
        command.stop()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> artifacts.Workspace:
    workspace = artifacts.locate(tmp_path_factory.mktemp("faults"))
    write_hospitals(workspace.dataset, seed=0, scale=0.05)
    return workspace


def other_code(folder: Path) -> Path:
    """Makes a copy of the program that differs in one comment."""
    subprocess.run(["cp", "-r", str(ROOT / "medisync"), str(ROOT / "notebook.ipynb"), str(folder)], check=True)
    with (folder / "medisync" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("# another version\n")
    return folder


class Story:
    """A server, its hospitals and a run; each test continues where the one before ended."""

    def __init__(self, stack: ExitStack, workspace: artifacts.Workspace, made: setup.FederationFiles) -> None:
        self._stack, self.workspace, self.made = stack, workspace, made
        self.hospitals: dict[str, Command] = {}

    def start_server(self) -> None:
        self.server = self._stack.enter_context(running("server", self.made.server))
        self.server.until("listening at")

    def start_hospital(self, name: str, project: Path = ROOT) -> None:
        self.hospitals[name] = self._stack.enter_context(
            running("hospital", self.made.hospitals[name], project=project)
        )

    def start_unregistered(self, folder: Path) -> None:
        """Starts a hospital whose key is not registered."""
        shutil.copytree(self.made.hospitals[TATA].parent, folder, symlinks=True)
        (folder / "hospital.key").unlink()
        credentials.make_hospital_keys(folder / "hospital.key", folder / "hospital.pub")
        self.unregistered = self._stack.enter_context(running("hospital", folder / "hospital.toml"))

    def start_run(self, *more: object) -> None:
        parameters = [word for name, value in PARAMETERS.items() for word in ("-p", name, value)]
        options = ["--workspace", self.workspace.root, *parameters, *more]
        self.run = self._stack.enter_context(running("run", self.made.server, *options))

    def wait_for_round_with(self, *names: str) -> int:
        """Waits for the end of a round that these hospitals, by name in order, trained in; returns its number."""
        pattern = r"round (\d+)/" + "".join(rf".*{name} \d" for name in names)
        return int(re.search(pattern, self.run.until(pattern))[1])  # type: ignore[index]


@pytest.fixture(scope="module")
def story(workspace: artifacts.Workspace) -> Iterator[Story]:
    """Starts the server; the tests, in their order, tell the rest."""
    made = loopback.prepare(workspace.root / "federation", workspace, PARAMETERS)
    made.server.write_text("gathering_seconds = 600\n" + made.server.read_text(encoding="utf-8"), encoding="utf-8")
    with ExitStack() as stack:
        story = Story(stack, workspace, made)
        story.start_server()
        story.start_unregistered(workspace.root / "unregistered")
        yield story


def test_a_hospital_refuses_a_server_that_its_authority_does_not_vouch_for(story: Story, tmp_path: Path) -> None:
    misled = tmp_path / "misled"
    shutil.copytree(story.made.hospitals[TATA].parent, misled, symlinks=True)
    credentials.make_authority(tmp_path / "elsewhere")
    shutil.copyfile(tmp_path / "elsewhere" / "ca.crt", misled / "ca.crt")
    with running("hospital", misled / "hospital.toml") as hospital:
        status, said = hospital.end()
    assert status == 1
    assert "its certificate is not accepted" in said


def test_a_hospital_with_other_code_is_not_let_in_and_joins_once_it_has_the_same(story: Story, tmp_path: Path) -> None:
    story.start_hospital(AIIMS)
    story.start_hospital(NIMHANS)
    story.start_hospital(TATA, project=other_code(tmp_path))
    for hospital in story.hospitals.values():
        hospital.until("connected to")
    story.start_run()
    assert "it runs medisync" in story.run.until(f"{TATA} was not let in")
    story.hospitals[TATA].stop()
    story.start_hospital(TATA)
    story.run.until("round 1/")
    story.wait_for_round_with(TATA)


def test_a_hospital_with_an_unregistered_key_is_turned_away(story: Story) -> None:
    status, said = story.unregistered.end()
    assert status == 1
    assert "the server does not know this hospital's key" in said


def test_a_round_does_not_wait_for_a_frozen_hospital_beyond_the_deadline(story: Story) -> None:
    story.hospitals[AIIMS].signal_all(signal.SIGSTOP)
    # Flower itself gives a node up 60 s after its last heartbeat, which may have been 30 s before it froze
    reasons = "did not answer within 40 s|failed to report a heartbeat"
    assert re.search(reasons, story.run.until(f"{AIIMS} was refused"))
    story.hospitals[AIIMS].signal_all(signal.SIGCONT)
    story.wait_for_round_with(AIIMS)


def test_a_hospital_that_fails_gives_the_reason_and_the_others_go_on(story: Story) -> None:
    """The folder for the weights that it receives is not a folder, as on a disk that failed."""
    weights = story.made.hospitals[NIMHANS].parent / "state" / "weights"
    weights.rename(weights.with_name("away"))
    weights.write_bytes(b"")
    assert "weights" in story.run.until(f"{NIMHANS} was refused")
    weights.unlink()
    weights.with_name("away").rename(weights)
    story.wait_for_round_with(NIMHANS)


def test_a_hospital_that_loses_power_is_missed_and_taken_back(story: Story) -> None:
    story.hospitals[TATA].signal_all(signal.SIGKILL)
    story.run.until(f"{TATA} was refused")
    story.start_hospital(TATA)
    story.wait_for_round_with(TATA)


VIOLATED = {
    "recipe": {"recipe": {"allowed": ["0" * 64]}},
    "strategy": {"recipe": {"strategies": ["krum"]}},
    "local-epochs": {"recipe": {"most_local_epochs": 0.5}},
    "image-size": {"recipe": {"smallest_image_size": 64}},
    "rounds-per-run": {"limits": {"rounds_per_run": 89}},
    "rounds-per-week": {"limits": {"rounds_per_week": 1}},
    "evaluations-per-run": {"limits": {"evaluations_per_run": 1}},
    "fewest-images": {"participation": {"fewest_images": 100_000}},
    "small-counts": {"release": {"smallest_count": 10_000}},
    "batchnorm-statistics": {"release": {"batchnorm_statistics": False}},
    "epsilon-per-run": {"epsilon": {"per_run": 1.0}},
    "epsilon-in-total": {"epsilon": {"in_total": 1.0}},
}
"""Policies that the run of this story breaks, by the rule that it breaks."""


def write_policy(story: Story, hospital: str, changes: dict[str, dict[str, object]]) -> None:
    """Writes the policy of a trial with other values to the hospital's folder, at once as an editor does."""
    sections = {name: {**loopback.TRIAL.get(name, {}), **changes.get(name, {})} for name in {*loopback.TRIAL, *changes}}
    file = beside(story.made.hospitals[hospital])
    file.with_suffix(".new").write_text(settings.to_toml(sections), encoding="utf-8")
    file.with_suffix(".new").replace(file)


@pytest.mark.parametrize("rule", VIOLATED)
def test_a_run_that_breaks_a_rule_of_a_hospital_is_refused_by_name_and_the_others_go_on(
    story: Story, rule: str
) -> None:
    write_policy(story, TATA, VIOLATED[rule])
    assert "its policy refuses this" in story.run.until(rf"{TATA} was refused: .*\({rule}\)")
    story.wait_for_round_with(AIIMS, NIMHANS)


def test_a_run_waits_until_a_person_at_the_hospital_approves_it(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(story, TATA, {"participation": {"approval": True}})
    said = story.run.until(rf"{TATA} was refused: .*\(approval\)")
    name = re.search(r"the run ([0-9a-f]{12}) waits for approval", said)[1]  # type: ignore[index]
    assert main(["federation", "requests", str(story.made.hospitals[TATA])]) == 0
    assert f"{name}: run-001 at the server\n  trains 90 rounds with fedavg" in capsys.readouterr().out
    assert main(["federation", "approve", name, str(story.made.hospitals[TATA])]) == 0
    story.wait_for_round_with(TATA)
    write_policy(story, TATA, {})


def test_the_logs_of_all_hospitals_agree_with_the_seals_that_the_server_kept(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in story.made.hospitals.values():
        seals = story.made.server.parent / "state" / "seals" / f"{file.parent.name}.jsonl"
        assert main(["federation", "audit-log", "verify", str(file), "--seals", str(seals)]) == 0
        assert "none edited, removed or moved (held against" in capsys.readouterr().out
        written = "".join(each.read_text() for each in (file.parent / "state" / "audit-log").glob("*.jsonl"))
        assert str(story.workspace.root) not in written
        assert not re.search(r"\.(jpg|png)", written)


def test_a_run_resumes_after_its_last_complete_round_when_the_server_was_killed(story: Story) -> None:
    story.server.signal_all(signal.SIGKILL)
    status, said = story.run.end()
    assert status == 1
    assert "resume it with --resume" in said
    story.start_server()
    story.start_run("--resume", "run-001")
    number = story.wait_for_round_with(AIIMS, NIMHANS, TATA)
    story.run.until(r"round \d+/")  # the round before it is on disk by then
    story.run.stop()
    history = artifacts.read(story.workspace.artifacts / "run-001", artifacts.HISTORY)
    assert [entry.epoch for entry in history] == list(range(1, len(history) + 1))
    assert all(len(entry.hospitals) >= 2 for entry in history)
    missing = {refusal.hospital for entry in history for refusal in entry.refused}
    assert missing == {AIIMS, NIMHANS, TATA}
    assert set(history[number - 1].hospitals) == {AIIMS, NIMHANS, TATA}


def test_stopped_hospitals_and_a_stopped_server_leave_no_process_behind(story: Story) -> None:
    """Flower's own child processes may notice a moment later that their parent has gone."""
    commands = (*story.hospitals.values(), story.server)
    started = [psutil.Process(number) for command in commands for number in family(command.process.pid)]
    for command in commands:
        command.stop()
    _, left = psutil.wait_procs(started, timeout=END_SECONDS)
    assert left == []
    assert not running_with(story.workspace.root)
