"""Any input is accepted or refused in one sentence: property tests of artifacts, uploads and folders."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import bad_inputs
import factories
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scans import hospital, save, texture

from medisync.dashboard import uploads
from medisync.dashboard.uploads import Sent
from medisync.data import audit
from medisync.errors import MediSyncError
from medisync.imaging.decoding import open_scan
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace

SHARED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factories.make_run(Workspace(tmp_path_factory.mktemp("workspace")))


def refusal(call: Callable[[], object]) -> str:
    """Returns the reason of a refusal, or an empty text; errors that are not MediSyncErrors propagate."""
    try:
        call()
    except MediSyncError as error:
        return str(error)
    return ""


@SHARED
@given(st.sampled_from(sorted(artifacts.SCHEMAS)), st.one_of(JSON.map(json.dumps), st.text(max_size=40)))
def test_any_text_as_an_artifact_is_read_or_refused(name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(text.encode("utf-8", "surrogatepass"))
        said = refusal(lambda: artifacts.read(Path(folder), name))
        assert said == "" or said.startswith(name)
        assert "\n" not in said


@SHARED
@given(st.data())
def test_any_value_anywhere_in_a_run_is_read_or_refused_and_the_run_is_listed(run: Path, data: st.DataObject) -> None:
    """Replaces one value of run.json by an arbitrary one."""
    whole = json.loads((run / artifacts.RUN).read_bytes())
    changed = {**whole, data.draw(st.sampled_from(sorted(whole))): data.draw(JSON)}
    before = (run / artifacts.RUN).read_bytes()
    try:
        (run / artifacts.RUN).write_text(json.dumps(changed))
        (listing,) = artifacts.list_runs(Workspace(run.parent.parent))
        assert (listing.record is None) == bool(listing.problem)
    finally:
        (run / artifacts.RUN).write_bytes(before)


MANGLED = [file.content for file in bad_inputs.files() if not file.refused and len(file.content) < 60_000]


@settings(SHARED, max_examples=300)
@given(st.sampled_from(MANGLED), st.data())
def test_any_mangled_file_as_an_upload_is_decoded_or_refused(content: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    patch = data.draw(st.binary(max_size=8))
    mangled = content[:at] + patch + content[at + data.draw(st.sampled_from([0, len(patch), 100])) :]
    for scan in uploads.expand([Sent("a", "k", mangled)])[0]:
        said = scan.problem or refusal(lambda files=scan.files: open_scan(files).decode())
        assert "\n" not in said
        assert bad_inputs.PATIENT not in said


@SHARED
@given(st.binary(max_size=300))
def test_any_bytes_that_begin_like_an_archive_are_expanded_or_refused(data: bytes) -> None:
    whole = bad_inputs.archive({"a.png": b"1", "b/c.png": b"22"})
    for content in (b"PK\x03\x04" + data, whole[: len(whole) // 2] + data + whole[len(whole) // 2 :], whole + data):
        found, left_out = uploads.expand([Sent("a.zip", "k", content)])
        assert found or left_out
        assert all(bool(scan.problem) != bool(scan.files) for scan in found)


def can_be_a_name(name: bytes) -> bool:
    return bool(name) and not {0, ord("/")} & set(name) and name not in (b".", b"..")


TEXTS = st.text(min_size=1, max_size=30).map(lambda text: text.encode("utf-8", "ignore"))


@SHARED
@given(st.one_of(st.binary(min_size=1, max_size=40), TEXTS).filter(can_be_a_name))
def test_any_folder_name_is_audited_and_logged_in_one_line(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        dataset = Path(root)
        save(dataset / "north/glioma/good.png", texture(1))
        odd = dataset / "north" / os.fsdecode(name)
        odd.mkdir(exist_ok=True)
        (odd / "a.png").write_bytes(b"no image")
        record = audit.audit_hospitals([hospital("North", "north")], dataset)
        assert record.hospitals["North"].total == 1
        assert all(line.isprintable() for line in audit.log_lines(record))
        artifacts.write(dataset, artifacts.AUDIT, record)
        assert artifacts.read(dataset, artifacts.AUDIT) == record
