"""Every row of the table of bad inputs, at every entry point, beside a good input that must not be affected.

Entry points: A audit of a dataset folder, U upload in the dashboard, P `medisync predict`, T training, F an update
from a hospital, R reading a run. Each is run once, with all bad files and a good one at the same time.
"""

import ast
import csv
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bad_inputs
import factories
import numpy as np
import pytest
import recipes
import torch
from app_pages import new_app
from bad_inputs import PATIENT, PATIENT_ID, BadFile
from scans import hospital, save, texture
from streamlit.testing.v1 import AppTest

from medisync.cli.main import main
from medisync.config import Configuration, SplitConfig
from medisync.dashboard import uploads
from medisync.dashboard.uploads import Sent, Upload
from medisync.data import audit, splits
from medisync.errors import ImageError
from medisync.federation import simulation
from medisync.imaging import archives
from medisync.imaging.decoding import decode
from medisync.imaging.formats import IMAGE_SUFFIXES
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.reporting import formatting
from medisync.schemas import LABELS, AuditedImage, AuditRecord, SplitRecord
from medisync.training.dataset import HospitalData, open_hospitals
from medisync.workspace import artifacts, publishing
from medisync.workspace.artifacts import Workspace

ROOT = Path(__file__).parent.parent
FILES = bad_inputs.files()
GOOD = "good.png"
ODD_NAMES = (
    "<script>alert(1)</script>.png".replace("/", "∕"),
    "a\nERROR made up.png",
    "\u202egnp.exe.png",
    "n" * 250 + ".png",
)
"""Row 31; a file name has no slash and at most 255 bytes."""

ROWS_ELSEWHERE = {
    39: "test_config.py::test_a_class_map_with_an_unknown_label_names_the_hospital_and_the_allowed_labels",
    41: "imaging/test_preprocessing.py::test_a_file_that_is_not_the_audited_one_is_refused",
    43: "federation/test_update_validation.py::test_a_wrong_update_is_refused_by_name_and_the_round_continues",
    44: "federation/test_update_validation.py::test_a_wrong_update_is_refused_by_name_and_the_round_continues",
    45: "federation/test_update_validation.py::test_a_second_update_from_one_hospital_is_refused",
    46: "federation/test_byzantine.py::test_an_outsized_update_is_clipped_and_named",
    49: "workspace/test_artifacts.py::test_runs_are_counted_up_and_other_names_are_ignored",
    50: "test_torture.py::test_a_run_killed_at_any_moment_is_resumed_to_the_same_bits",
}


def name_of(file: BadFile) -> str:
    return f"{file.row}-{file.name}"


def check_response(file: BadFile, problem: str, notes: str) -> None:
    """Asserts that a refusal gives its reason in one line, and that an accepted file has its notes."""
    if file.refused:
        assert any(phrase in problem for phrase in file.refused.split("|")), problem
        assert "\n" not in problem
    else:
        assert problem == ""
        assert all(note in notes for note in file.notes), notes


def with_suffix(suffixes: Any) -> list[BadFile]:
    return [file for file in FILES if file.name.endswith(tuple(suffixes))]


# A: the audit


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> AuditRecord:
    dataset = tmp_path_factory.mktemp("dataset")
    save(dataset / "north/glioma" / GOOD, texture(99, 150))
    for file in FILES:
        (dataset / "north/glioma" / file.name).write_bytes(file.content)
    for number, name in enumerate(ODD_NAMES):
        save(dataset / "north/meningioma" / name, texture(200 + number))
    (dataset / "north/glioma/unreadable.png").symlink_to("/proc/self/mem")  # not even root can read this file
    os.truncate(save(dataset / "north/glioma/huge.png", texture(1)), 10 * 2**30)
    return audit.audit_hospitals([hospital("North", "north")], dataset)


def image_of(record: AuditRecord, name: str) -> AuditedImage:
    return next(image for image in record.images if Path(image.path).name == name)


@pytest.mark.parametrize("file", [file for file in with_suffix(IMAGE_SUFFIXES) if file.slices == 1], ids=name_of)
def test_audit(audited: AuditRecord, file: BadFile) -> None:
    image = image_of(audited, file.name)
    check_response(file, image.reason, "; ".join(image.notes))
    assert (image.status == "unreadable") == bool(file.refused)
    noted = audited.hospitals["North"].notes
    assert all(any(note in line for line in noted) for note in file.notes)


def test_audit_of_the_good_file_and_of_files_that_are_not_images(audited: AuditRecord) -> None:
    assert image_of(audited, GOOD).status == "ok"
    assert image_of(audited, "unreadable.png").reason == "cannot be read: Input/output error"
    assert image_of(audited, "huge.png").reason == "the file has 10240 MB, more than the limit of 256 MB"
    skipped = audited.hospitals["North"].skipped
    assert {f"not an image ({suffix})" for suffix in (".eps", ".pdf", ".svg")} <= skipped.keys()
    assert image_of(audited, "named.dcm").status == "ok"
    for volume in ("frames.dcm", "pages.tiff"):
        assert "a volume of 3 slices; datasets take single slices" in image_of(audited, volume).reason


def test_odd_names_are_escaped_in_the_log_and_their_images_are_used(audited: AuditRecord) -> None:
    for name in ODD_NAMES:
        assert image_of(audited, name).status == "ok"
    broken = [replace_name(image_of(audited, "empty.jpg"), name) for name in ODD_NAMES]
    lines = audit.log_lines(audited.model_copy(update={"images": broken}))
    assert not any(character in line for line in lines for character in "\n\r\u202e\x1b")
    assert any(r"a\nERROR made up.png" in line for line in lines)


def replace_name(image: AuditedImage, name: str) -> AuditedImage:
    return image.model_copy(update={"path": f"north/glioma/{name}"})


# U and P: predictions of the published model, which was trained on scans


@pytest.fixture(scope="module")
def uploaded() -> Iterator[AppTest]:
    """Uploads all files at once in one session of the real page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDISYNC_WORKSPACE", str(ROOT))
        app = new_app().run()
        app.switch_page(str(ROOT / "medisync/dashboard/pages/prediction.py")).run()
        sent = [(file.name, file.content, "image/png") for file in FILES]
        sent += [(name, bad_inputs.encoded(texture(5, 150)), "image/png") for name in ("../../x.png", *ODD_NAMES)]
        app.file_uploader[0].set_value([(GOOD, sample(), "image/png"), *sent]).run()
        yield app


def sample() -> bytes:
    return (ROOT / "medisync/dashboard/samples/glioma.png").read_bytes()


def row_of(app: AppTest, name: str) -> dict[str, str]:
    table = app.dataframe[0].value
    return table[table["File"] == name].iloc[0].to_dict()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_upload(uploaded: AppTest, file: BadFile) -> None:
    row = row_of(uploaded, file.name)
    accepted = row["Class"] != formatting.NO_VALUE
    check_response(file, "" if accepted else row["Note"], row["Note"])
    if file.unlike:
        assert row["Out of distribution"] == "yes"


def test_upload_of_the_good_file(uploaded: AppTest) -> None:
    assert not uploaded.exception
    row = row_of(uploaded, GOOD)
    assert (row["Class"] in formatting.CLASS_NAMES.values(), row["Out of distribution"]) == (True, "no")


def test_names_of_uploads_are_shown_without_control_characters(uploaded: AppTest) -> None:
    shown = uploaded.dataframe[0].value["File"].tolist()
    assert "../../x.png" in shown
    assert "aERROR made up.png" in shown
    assert "gnp.exe.png" in shown
    assert max(map(len, shown)) <= 80


def test_the_page_names_no_patient(uploaded: AppTest) -> None:
    # the page only; the session itself holds the uploads while it lasts
    everything = repr(uploaded.main) + repr(uploaded.sidebar) + uploaded.dataframe[0].value.to_csv()
    assert PATIENT not in everything
    assert PATIENT_ID not in everything


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Returns the CSV rows by file name, for a folder of all files and for the files that a folder would leave out."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / GOOD).write_bytes(sample())
    for file in FILES:
        (folder / file.name).write_bytes(file.content)
    for name in (*ODD_NAMES, os.fsdecode(b"not-utf8-\xff.png")):
        save(folder / name, texture(5, 150))
    (folder / ".hidden.png").touch()
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(".")
    table = tmp_path_factory.mktemp("out") / "predictions.csv"
    outside = [folder / file.name for file in FILES if file.stays_outside]
    assert main(["predict", "--workspace", str(ROOT), "--output", str(table), str(folder), *map(str, outside)]) == 1
    with table.open(newline="", encoding="utf-8") as lines:
        return {Path(row["path"]).name: row for row in csv.DictReader(lines)}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_predict(predicted: dict[str, dict[str, str]], file: BadFile) -> None:
    row = predicted[file.name]
    check_response(file, "" if row["label"] else row["note"], row["note"])
    assert ("out of distribution" in row["note"]) or not file.unlike
    if file.row in (10, 11, 12):
        assert "pixels" in row["note"]


def test_predict_of_the_good_file_and_of_odd_names(predicted: dict[str, dict[str, str]]) -> None:
    assert predicted[GOOD]["label"] in LABELS
    assert "out of distribution" not in predicted[GOOD]["note"]
    assert predicted[r"a\nERROR made up.png"]["label"] in LABELS
    assert predicted[r"not-utf8-\udcff.png"]["label"] in LABELS
    assert len(predicted) == len(FILES) + 1 + len(ODD_NAMES) + 1
    assert PATIENT not in str(predicted)


@pytest.mark.parametrize(
    "data", [file.content for file in FILES if file.row in (10, 11, 12)], ids=["20000", "12000", "9000"]
)
def test_a_decompression_bomb_is_refused_from_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image, ImageFile

    def decode_pixels(self: object, *arguments: object) -> None:
        raise AssertionError("its pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode_pixels)
    monkeypatch.setattr(Image.Image, "verify", decode_pixels)
    with pytest.raises(ImageError, match="limit of 17 million pixels"):
        decode(data)


def test_sixteen_bit_images_keep_their_contrast_and_turned_images_are_upright() -> None:
    content = {file.name: file.content for file in FILES}
    decoded = decode(content["16-bit.png"]).pixels
    assert np.corrcoef(decoded.ravel(), bad_inputs.SCAN.ravel())[0, 1] > 0.99
    assert (decoded < 255).mean() > 0.9
    turned = decode(content["turned.jpg"]).pixels
    assert turned.shape == (192, 128)
    assert turned[:, :60].mean() > 100 > 20 > turned[:, 68:].mean()
    plain, inverted = (decode(content[name]).pixels for name in ("named.dcm", "monochrome1.dcm"))
    assert np.corrcoef(plain.ravel(), inverted.ravel())[0, 1] < -0.99


# 32: archives


def expanded(content: bytes) -> list[Upload]:
    return uploads.expand([Sent("a.zip", "k", content)])[0]


def many(count: int) -> dict[str, bytes]:
    return {f"{number}.png": b"x" for number in range(count)}


ARCHIVES = {
    "a member outside the folder": ({"../../x.png": b"x", "a.png": b"x"}, "paths outside it"),
    "an absolute member": ({"/etc/x.png": b"x"}, "paths outside it"),
    "a drive": ({r"C:\x.png": b"x"}, "paths outside it"),
    "a bomb": ({f"{k}.png": b"\0" * 2**25 for k in range(7)}, "more than the limit of 200 MB"),
    "10,000 images": (many(10_000), "contains 10,000 files; the limit is 5,000 at once"),
    "40,000 files": ({f"{number:050}": b"" for number in range(40_000)}, "lists too many files; the limit is 5,000"),
}


@pytest.mark.parametrize(("members", "reason"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_is_refused_before_anything_is_unpacked(
    members: dict[str, bytes], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(*arguments: object) -> bytes:
        raise AssertionError("a member was unpacked")

    content = bad_inputs.archive(members)
    monkeypatch.setattr(archives.zipfile.ZipFile, "open", unpack)
    (scan,) = expanded(content)
    assert reason in scan.problem
    assert scan.files == ()


def test_more_images_than_the_limit_and_an_archive_in_an_archive_are_refused() -> None:
    (scan,) = expanded(bad_inputs.archive({f"{number}.png": bad_inputs.PNG for number in range(201)}))
    assert scan.problem == "the archive contains 201 scans; upload at most 200 at once"
    (scan,) = expanded(bad_inputs.archive({"inner.zip": bad_inputs.archive({"a.png": b"x"})}))
    assert "1 archive inside the archive, not opened (inner.zip)" in scan.problem


def test_an_encrypted_member_is_refused() -> None:
    (scan,) = expanded(bad_inputs.encrypted_archive())
    assert "encrypted" in scan.problem


def test_a_member_larger_than_its_entry_claims_is_refused() -> None:
    content = bytearray(bad_inputs.archive({"a.png": b"\0" * 10**6, "b.png": b"whole"}))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (100).to_bytes(4, "little")
    first, second = expanded(bytes(content))
    assert (first.files, first.problem) == ((), "the file is damaged in the archive")
    assert (second.files, second.problem) == ((b"whole",), "")


# T: a run on hospitals with the faults of folders, rows 34 to 38 and 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults") / "dataset"
    seeds = iter(range(1000, 2000))
    for folder, count in {
        "north/glioma": 6,
        "north/no tumor": 6,
        "south/glioma": 8,
        "one/glioma": 1,
        "two/glioma": 6,
    }.items():
        for number in range(count):
            save(root / folder / f"{number}.png", texture(next(seeds), 64))
    (root / "north/meningioma").mkdir()
    for folder in ("Pituitary Tumor", "pituitary_tumor", "brain_tumor", ".ipynb_checkpoints"):
        for number in range(3):
            save(root / "north" / folder / f"{number}.jpg", texture(next(seeds), 64))
    for number in range(2):
        save(root / "two/no tumor" / f"{number}.png", texture(next(seeds), 64))
    for folder in ("south/glioma", "south/meningioma"):
        save(root / folder / "both.png", texture(999, 64))
    (root / "north/glioma/.DS_Store").touch()
    (root / "north/glioma/Thumbs.db").touch()
    (root / "north/glioma/dangling.png").symlink_to("nowhere.png")
    (root / "north/glioma/loop").symlink_to("..")
    (root / "north/glioma/unreadable.png").symlink_to("/proc/self/mem")
    return root


MAP = {"glioma": "glioma", "meningioma": "meningioma", "no tumor": "notumor", "pituitary tumor": "pituitary"}
MEMBERS = [hospital(name, name.lower(), MAP) for name in ("North", "South", "One", "Two")]


@pytest.fixture(scope="module")
def found(dataset: Path) -> AuditRecord:
    return audit.audit_hospitals(MEMBERS, dataset)


@pytest.fixture(scope="module")
def split(found: AuditRecord) -> SplitRecord:
    return splits.split(found, SplitConfig(), MEMBERS)


@pytest.fixture(scope="module")
def outcome(split: SplitRecord, dataset: Path) -> Any:
    splits.require_no_leak(split)
    data: dict[str, HospitalData] = open_hospitals(split, dataset, 32, dataset.parent / "cache")
    sections = {
        "training": recipes.training(image_size=32, batch_size=4, learning_rate=1e-3, device="cpu"),
        "federation": recipes.federation(rounds=1),
    }
    return simulation.simulate(data, Configuration.model_construct(**sections))


@pytest.mark.parametrize(
    ("row", "note"),
    [
        (34, "folder 'meningioma' holds no image"),
        (35, "folder 'brain_tumor' is not in the class map: 3 images left out"),
        (36, "folders 'Pituitary Tumor' and 'pituitary_tumor' are merged as pituitary"),
    ],
)
def test_a_faulty_folder_is_noted_and_the_run_continues(found: AuditRecord, outcome: Any, row: int, note: str) -> None:
    north = found.hospitals["North"]
    assert any(said.startswith(note) for said in (*north.notes, *north.warnings))
    assert found.hospitals["North"].class_distribution == {"glioma": 6, "meningioma": 0, "pituitary": 6, "notumor": 6}
    assert outcome.history[0].hospitals["North"].train_images > 0


def test_one_image_under_two_labels_is_left_out_of_training(found: AuditRecord, split: SplitRecord) -> None:
    (conflict,) = found.conflicts
    assert sorted(conflict.paths) == ["south/glioma/both.png", "south/meningioma/both.png"]
    used = {
        image.path
        for part in split.hospitals.values()
        for name in ("train", "val", "test")
        for image in getattr(part, name)
    }
    assert not used & set(conflict.paths)
    assert not [path for path in used if "brain_tumor" in path or "checkpoints" in path or "unreadable" in path]


def test_unreadable_files_and_files_that_are_not_images_are_counted_by_reason(found: AuditRecord) -> None:
    north = found.hospitals["North"]
    assert north.skipped == {
        "hidden or system file": 3,
        "broken link": 1,
        "link to a folder that was already visited": 1,
    }
    assert north.unreadable == 1
    assert any("unreadable.png: cannot be read: Input/output error" in line for line in audit.log_lines(found))


def test_hospitals_with_hardly_any_images_are_noted_and_their_metrics_are_undefined(
    split: SplitRecord, outcome: Any
) -> None:
    assert any("One" in note for note in split.notes)
    assert any("Two" in note and "notumor" in note for note in split.notes)
    (refusal,) = outcome.history[0].refused
    assert (refusal.hospital, "1 training images; at least 2 are needed" in refusal.reason) == ("One", True)
    assert outcome.hospitals["One"].accuracy is None
    south = outcome.hospitals["South"].per_class
    assert south["glioma"].recall is not None
    assert south["notumor"].recall is None


# T: 42


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("LEARNING_RATE", "-1", "LEARNING_RATE: must be greater than 0, got -1"),
        ("ROUNDS", "0", "ROUNDS: must be greater than or equal to 1, got 0"),
        ("BATCH_SIZE", "-1", "BATCH_SIZE: must be greater than or equal to 0, got -1"),
        ("BATCH_SIZE", "16", "BATCH_SIZE 16 and STEPS_PER_EPOCH 80 contradict each other; set one of them to 0"),
        ("STEPS_PER_EPOCH", "0", "BATCH_SIZE and STEPS_PER_EPOCH are both 0; set one of them"),
        ("SEED", "x", "SEED: must be a valid integer, got 'x'"),
        ("IMAGE_SIZE", "7", "IMAGE_SIZE: must be a multiple of 32, got 7"),
        ("ROUND", "3", "ROUND is not a parameter; did you mean ROUNDS?"),
        ("VAL_RATIO", "0.9", "val_ratio + test_ratio must leave at least 0.2 for training, got 1.05"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_is_written(
    name: str, value: str, rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--workspace", str(tmp_path), "-p", name, value]) == 2
    error = capsys.readouterr().err
    assert rule in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# R: 47


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return artifacts.locate(tmp_path)


RECORDS = {
    "cut off": ('{"status": "comp', "run.json is damaged"),
    "empty": ("", "run.json is damaged"),
    "not a number": ('{"status": NaN}', "run.json is damaged: holds NaN, which is not a number in JSON"),
    "a key twice": ('{"run": "a", "run": "b"}', "run.json is damaged: key 'run' occurs twice"),
    "a newer format": (None, "the run has format 2, this program reads up to 1; use a newer one"),
    "a file elsewhere": (None, "run.json is damaged: files: '../x' is not the name of a file in the run"),
}


@pytest.mark.parametrize(("text", "reason"), RECORDS.values(), ids=RECORDS.keys())
def test_a_damaged_run_is_listed_with_the_reason_and_the_others_load(
    workspace: Workspace, text: str | None, reason: str
) -> None:
    import json

    for _ in range(2):
        factories.make_run(workspace)
    file = workspace.artifacts / "run-002" / artifacts.RUN
    plain = json.loads(file.read_text())
    changed = {**plain, "format": 2} if "format" in reason else {**plain, "files": {"../x": ""}}
    file.write_text(json.dumps(changed) if text is None else text)
    damaged, whole = artifacts.list_runs(workspace)
    assert reason in damaged.problem
    assert damaged.record is None
    assert (whole.name, whole.problem) == ("run-001", "")


@pytest.mark.parametrize("name", [artifacts.META, artifacts.HISTORY, artifacts.AUDIT, artifacts.STATS])
def test_an_artifact_with_a_wrong_hash_is_reported(workspace: Workspace, name: str) -> None:
    folder = factories.make_run(workspace)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    (listing,) = artifacts.list_runs(workspace)
    assert listing.problem == f"{name} was changed after the run (its SHA-256 differs from run.json)"


# R U P: 48


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle was executed')",)


def weights(kind: str) -> bytes:
    state = build_resnet18().state_dict()
    match kind:
        case "a malicious pickle":
            return pickle.dumps(Malicious())
        case "cut off":
            return serialise(state)[:100_000]
        case "another architecture":
            return serialise({"layer.weight": torch.zeros(3)})
        case _:
            return serialise(
                {key: tensor * float("nan") for key, tensor in state.items() if tensor.is_floating_point()}
                | {key: tensor for key, tensor in state.items() if not tensor.is_floating_point()}
            )


WEIGHTS = {
    "a malicious pickle": "is not a file of plain weights, so it was not loaded",
    "cut off": "is not a file of plain weights",
    "another architecture": "does not fit this program's ResNet18",
    "all NaN": "holds values that are not finite",
}


@pytest.mark.parametrize(("kind", "reason"), WEIGHTS.items(), ids=WEIGHTS.keys())
def test_weights_that_cannot_be_trusted_are_refused_though_their_hash_is_right(
    kind: str, reason: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = factories.make_run(workspace, model=weights(kind))
    publishing.publish(workspace, run.name)
    scan = save(workspace.root / "scan.png", texture(1))
    assert main(["predict", "--workspace", str(workspace.root), str(scan)]) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert "Traceback" not in said.err
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(workspace.root))
    app = new_app().run()
    assert not app.error  # the run's other pages do not need the weights
    app.switch_page(str(ROOT / "medisync/dashboard/pages/prediction.py")).run()
    app.file_uploader[0].set_value([("scan.png", scan.read_bytes(), "image/png")]).run()
    assert not app.exception
    assert not app.metric
    assert formatting.sentence(reason)[1:-1] in app.error[0].value


def test_every_row_has_a_test() -> None:
    here = {file.row for file in FILES} | {31, 32, 34, 35, 36, 37, 38, 40, 42, 47, 48}
    assert sorted(here | ROWS_ELSEWHERE.keys()) == list(range(1, 51))
    for test in ROWS_ELSEWHERE.values():
        file, name = test.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
