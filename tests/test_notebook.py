"""The notebook: its rules, and a real execution on small phantom hospitals."""

import ast
import base64
import json
import shutil
from pathlib import Path

import pytest
from choreographer.browsers.chromium import Chromium
from scans import save, texture

from medisync import notebook
from medisync.cli.main import main
from medisync.errors import ConfigError, MediSyncError
from medisync.inference import predictor
from medisync.phantom.hospitals import cases, write_hospitals
from medisync.workspace import artifacts

ROOT = Path(__file__).parent.parent
NOTEBOOK = json.loads((ROOT / "notebook.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SMALL = ["-p", "IMAGE_SIZE", "32", "-p", "ROUNDS", "2", "-p", "DEVICE", "cpu", "-p", "LEARNING_RATE", "1e-3"]


def test_cells_define_nothing_and_loop_over_nothing() -> None:
    forbidden = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try)
    assert not [source for source in CODE for node in ast.walk(ast.parse(source)) if isinstance(node, forbidden)]


def test_cells_are_short_except_where_they_are_configuration() -> None:
    for source in CODE:
        statements = ast.parse(source).body
        values_only = all(isinstance(each, ast.Assign) and str(each.targets[0].id).isupper() for each in statements)  # type: ignore[attr-defined]
        assert values_only or len(source.splitlines()) <= 6, source


def test_a_newcomers_parameters_stand_before_the_advanced_ones_after_which_papermill_sets_them() -> None:
    (advanced,) = (cell for cell in NOTEBOOK["cells"] if "parameters" in cell["metadata"].get("tags", []))
    place = CODE.index("".join(advanced["source"]))
    first, second = ([name.split(" = ")[0] for name in CODE[k].splitlines()] for k in (place - 1, place))
    assert len(first) == 10
    assert {"ROUNDS", "IMAGE_SIZE", "SEED"} <= set(first)
    assert set(first) | set(second) == notebook.literals().keys() - {"HOSPITAL_CONFIGS", "DATASETS"}


def test_no_outputs_are_committed() -> None:
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def train(workspace: Path, *more: str) -> int:
    return main(["train", "--workspace", str(workspace), *SMALL, *more])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> artifacts.Workspace:
    """A workspace after one run of the notebook."""
    root = tmp_path_factory.mktemp("workspace")
    write_hospitals(root / "dataset", seed=1, scale=0.08)
    write_external(root / "dataset")
    assert train(root, "-p", "DATASETS", repr(notebook.literals()["DATASETS"] | ELSEWHERE)) == 0
    return artifacts.locate(root)


ELSEWHERE = {
    "elsewhere": {
        "role": "external",
        "path": "elsewhere",
        "source": "phantoms and textures",
        "class_map": {"glioma": "glioma", "notumor": "notumor", "other": "other"},
    }
}


def write_external(dataset: Path) -> None:
    """Four phantoms of glioma and four without a tumour, two textures, and a copy of a hospital's glioma."""
    for label in ("glioma", "notumor"):
        for number, case in enumerate([each for each in cases(seed=5, scale=0.05) if each.label == label][:4]):
            save(dataset / "elsewhere" / label / f"{number}.png", case.draw()[0].image)
    for number in range(2):
        save(dataset / "elsewhere/other" / f"{number}.png", texture(number, 150))
    copied = min((dataset / "dataset-2/glioma").iterdir())
    shutil.copy(copied, dataset / f"elsewhere/glioma/copy{copied.suffix}")


def test_the_run_is_complete_and_published(workspace: artifacts.Workspace) -> None:
    (listing,) = artifacts.list_runs(workspace)
    assert listing.problem == ""
    artifacts.verify(workspace, "run-001")
    assert listing.record is not None
    assert listing.record.synthetic
    for name in artifacts.PUBLISHED:
        assert (workspace.models / name).read_bytes() == (listing.folder / name).read_bytes()
    assert artifacts.read(listing.folder, artifacts.META).datasets.keys() == {
        "AIIMS Delhi",
        "NIMHANS Bengaluru",
        "Tata Memorial Mumbai",
    }
    assert len(artifacts.read(listing.folder, artifacts.HISTORY)) == 2


def test_the_baselines_are_in_the_run_and_in_the_executed_notebook(workspace: artifacts.Workspace) -> None:
    run = workspace.artifacts / "run-001"
    record, meta = artifacts.read(run, artifacts.BASELINES), artifacts.read(run, artifacts.META)
    assert [each.kind for each in record.models] == ["federated", "local", "local", "local", "pooled"]
    assert record.models[0].test == meta.metrics.test
    for each in (meta.metrics.test, *meta.metrics.hospitals.values()):
        assert each.selective.n == each.n
        assert each.selective.flagged == pytest.approx(each.unlike_training)
    assert sum(meta.metrics.histograms.ood_scores) == meta.metrics.test.n
    assert sum(meta.metrics.histograms.healthy) == meta.metrics.test.per_class["notumor"].support
    assert "McNemar p" in (run / artifacts.NOTEBOOK).read_text(encoding="utf-8")


def test_the_attack_uses_the_hospitals_own_models_and_is_on_the_card(workspace: artifacts.Workspace) -> None:
    run = workspace.artifacts / "run-001"
    assert artifacts.MEMBERSHIP in artifacts.read(run, artifacts.RUN).files
    record = artifacts.read(run, artifacts.MEMBERSHIP)
    names = ["AIIMS Delhi", "NIMHANS Bengaluru", "Tata Memorial Mumbai"]
    assert record.references == {name: [other for other in names if other != name] for name in names}
    assert {each.hospital for each in record.attacks} == {None, *names}
    assert {each.attack for each in record.attacks} == {"loss", "margin", "reference"}
    split = artifacts.read(run, artifacts.SPLITS)
    for each in record.attacks:
        hospital = split.hospitals.get(each.hospital)
        if hospital and each.level == "image":
            assert each.members <= len(hospital.train)
            assert each.non_members <= len(hospital.test)
    assert "## Membership inference" in (run / artifacts.CARD).read_text(encoding="utf-8")


def test_the_external_dataset_is_evaluated_as_the_command_evaluates_it(
    workspace: artifacts.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = workspace.artifacts / "run-001"
    assert artifacts.EXTERNAL in artifacts.read(run, artifacts.RUN).files
    found = artifacts.read(run, artifacts.EXTERNAL)["elsewhere"]
    assert {each.name: each.images for each in found.folders} == {"glioma": 4, "notumor": 4, "other": 2}
    assert (found.source, found.excluded) == ("phantoms and textures", {"copies of hospitals' scans": 1})
    assert (found.known.n, found.other_selective.n) == (8, 2)
    assert found.known.intervals.keys() >= {"accuracy", "macro_auc"}
    (copied,) = (workspace.dataset / "elsewhere/glioma").glob("copy*")
    copied.unlink()
    capsys.readouterr()
    assert main(["evaluate", str(workspace.dataset / "elsewhere"), "--workspace", str(workspace.root), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["confusion_matrix"] == found.known.confusion_matrix
    for name in ("tumour_auc", "tumour_auc_external_healthy", "tumour_auc_external_tumours", "ood_auc_known"):
        assert figures[name] == pytest.approx(getattr(found, name)), name
    assert figures["selective"]["points"] == [each.model_dump() for each in found.known.selective.points]
    assert figures["other_selective"]["flagged"] == found.other_selective.flagged


def test_a_hospitals_own_model_is_kept_and_predicts_as_it_was_tested(workspace: artifacts.Workspace) -> None:
    run = workspace.artifacts / "run-001"
    record, split = artifacts.read(run, artifacts.BASELINES), artifacts.read(run, artifacts.SPLITS)
    assert [each.stored is not None for each in record.models] == [False, True, True, True, False]
    own = record.models[1]
    classifier = predictor.load(*(run / name for name in artifacts.local_files(1)), own.stored)
    scans = [scan for hospital in split.hospitals.values() for scan in hospital.test]
    predicted = [predictor.predict(classifier, (workspace.dataset / scan.path).read_bytes()) for scan in scans]
    right = [prediction.label == scan.label for prediction, scan in zip(predicted, scans, strict=True)]
    assert len(right) == own.test.n
    assert sum(right) / len(right) == pytest.approx(own.test.accuracy)


def test_the_log_tells_what_happened(workspace: artifacts.Workspace) -> None:
    (log,) = workspace.logs.glob("*/training.log")
    text = log.read_text()
    for words in ("synthetic phantoms", "brain_other", "image is damaged", "round 2/2", "run-001 completed"):
        assert words in text


def test_the_executed_notebook_is_kept_with_its_tables(workspace: artifacts.Workspace) -> None:
    executed = json.loads((workspace.artifacts / "run-001" / artifacts.NOTEBOOK).read_text())
    shown = json.dumps([cell.get("outputs") for cell in executed["cells"]])
    for words in ("unresolved", "Near-duplicates", "Validation accuracy", "Sensitivity", "Research use only"):
        assert words in shown


def test_the_executed_notebook_shows_pictures_that_need_no_browser_to_be_seen(workspace: artifacts.Workspace) -> None:
    executed = json.loads((workspace.artifacts / "run-001" / artifacts.NOTEBOOK).read_text())
    charts = [
        output["data"]
        for cell in executed["cells"]
        for output in cell.get("outputs", [])
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    assert len(charts) == 11
    if Chromium.find_browser(skip_local=False) is None:
        pytest.skip("neither Chrome nor Chromium is installed, so charts have no static pictures")
    for chart in charts:
        assert base64.b64decode(chart["image/png"]).startswith(b"\x89PNG")


def test_a_run_names_no_place_of_the_machine_that_it_ran_on(workspace: artifacts.Workspace) -> None:
    logs = list(workspace.logs.rglob("*.log"))
    written = [
        file for file in (workspace.artifacts / "run-001").iterdir() if file.suffix in (".json", ".ipynb", ".md")
    ]
    assert len(written) > 8
    for file in [*written, *logs]:
        text = file.read_text(encoding="utf-8")
        assert str(workspace.root) not in text, file.name
        assert str(ROOT) not in text, file.name


def test_a_class_that_a_hospital_lacks_is_in_the_statistics_as_none(workspace: artifacts.Workspace) -> None:
    stats = artifacts.read(workspace.artifacts / "run-001", artifacts.STATS)
    assert stats["NIMHANS Bengaluru"].class_distribution["notumor"] == 0
    assert stats["AIIMS Delhi"].class_distribution["notumor"] > 0


def test_the_same_seed_makes_the_same_model_and_several_seeds_a_mean(
    workspace: artifacts.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The baselines and the external dataset, which these runs do without, leave the federation as it is."""
    assert train(workspace.root, "--seeds", "0", "1", "-p", "BASELINES", "[]") == 0
    first, again, other = (
        artifacts.read(workspace.artifacts / run, artifacts.META) for run in ("run-001", "run-002", "run-003")
    )
    assert first.model_sha256 == again.model_sha256
    assert first.metrics == again.metrics
    splits = [artifacts.read(workspace.artifacts / run, artifacts.SPLITS) for run in ("run-001", "run-002")]
    assert splits[0] == splits[1]
    assert other.model_sha256 != again.model_sha256
    mean = (again.metrics.test_accuracy + other.metrics.test_accuracy) / 2
    assert f"test accuracy                        {mean:.3f} +- " in capsys.readouterr().out


def test_a_mistyped_parameter_is_refused_before_anything_starts(workspace: artifacts.Workspace) -> None:
    before = sorted(workspace.artifacts.iterdir())
    assert train(workspace.root, "-p", "ROUNDS", "0") == 2
    assert train(workspace.root, "-p", "ROUND", "3") == 2
    assert sorted(workspace.artifacts.iterdir()) == before
    with pytest.raises(ConfigError, match="ROUND is not a parameter; did you mean ROUNDS"):
        notebook.configuration({"ROUND": 3})


def test_a_run_that_dies_publishes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset").mkdir()
    assert train(tmp_path) == 1
    said = capsys.readouterr().err
    for folder in ("dataset-1", "dataset-2", "dataset-3/Brain_Cancer raw MRI data/Brain_Cancer"):
        assert str(tmp_path / "dataset" / folder) in said
    (listing,) = artifacts.list_runs(artifacts.locate(tmp_path))
    assert listing.record is None
    assert not list((tmp_path / "models").glob("*"))
    with pytest.raises(MediSyncError):
        artifacts.verify(artifacts.locate(tmp_path), listing.name)


def test_a_fourth_hospital_is_one_entry_in_each_dictionary(tmp_path: Path) -> None:
    """The notebook with two entries more, and nothing else changed."""
    names = notebook.literals()
    names["HOSPITAL_CONFIGS"]["CMC Vellore"] = {
        "dataset_id": "dataset-4",
        "specialty": "Neurosurgery",
        "location": {"lat": 12.92, "lon": 79.13},
    }
    names["DATASETS"]["dataset-4"] = {
        "hospital": "CMC Vellore",
        "path": "dataset-4",
        "class_map": {"glioma": "glioma", "healthy": "notumor"},
    }
    from medisync import config
    from medisync.data import audit, splits
    from medisync.federation import simulation
    from medisync.training.dataset import open_hospitals

    configuration = config.from_dict({**names, "IMAGE_SIZE": 32, "ROUNDS": 1, "DEVICE": "cpu"})
    dataset = tmp_path / "dataset"
    write_hospitals(dataset, seed=2, scale=0.03)
    fourth = cases(seed=9, scale=0.05)
    for number, case in enumerate(case for case in fourth if case.paths[0].startswith("dataset-1")):
        folder = {"glioma": "glioma", "notumor": "healthy"}.get(case.label)
        if folder:
            save(dataset / "dataset-4" / folder / f"{number}.png", case.draw()[0].image)
    record = audit.audit_hospitals(configuration.hospitals, dataset)
    split = splits.split(record, configuration.splits, configuration.hospitals)
    outcome = simulation.simulate(open_hospitals(split, dataset, 32, tmp_path / "cache"), configuration)
    assert "CMC Vellore" in outcome.hospitals
    assert outcome.hospitals["CMC Vellore"].n > 0
