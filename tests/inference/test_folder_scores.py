"""A folder of class folders is scored by the run's class maps; what is left out is named, and nothing scored is an error."""

import json
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import dicom
from pydicom.uid import generate_uid
from scans import save, texture

from medisync.errors import ConfigError, DataError
from medisync.imaging.scan_files import list_folder
from medisync.inference.folder_scores import Conflict, FolderScores, folder_labels, score_folder, sort_by_class
from medisync.inference.folders import find_scans, predict_scans
from medisync.inference.predictor import Classifier
from medisync.schemas import Label

MAPS: dict[str, dict[str, Label]] = {
    "North": {"brain glioma": "glioma", "brain tumor": "pituitary"},
    "South": {"brain_tumor": "meningioma", "tumeurs": "glioma"},
}


def fill(root: Path, folders: dict[str, int]) -> Path:
    for folder, count in folders.items():
        for number in range(count):
            save(root / folder / f"{number}.png", texture(len(folder) + 10 * number, 150))
    return root


def score(classifier: Classifier, root: Path, hospital: str = "") -> FolderScores:
    return score_folder(classifier, root, folder_labels(MAPS, hospital))


def test_a_folder_of_class_folders_is_scored(untrained: Classifier, tmp_path: Path) -> None:
    fill(tmp_path, {"glioma": 2, "No_Tumor": 3, "chest x-rays": 4})
    (tmp_path / "glioma/broken.png").write_bytes(b"no")
    (tmp_path / "notes.txt").write_text("text")
    scores = score(untrained, tmp_path)
    figures = json.loads(json.dumps(scores.to_json()))
    matrix = np.array(figures["confusion_matrix"])
    assert figures["n"] == 5
    assert figures["n_per_class"] == {"glioma": 2, "meningioma": 0, "pituitary": 0, "notumor": 3}
    assert matrix.sum(axis=1).tolist() == [2, 0, 0, 3]
    assert figures["accuracy"] == pytest.approx(np.trace(matrix) / 5)
    assert figures["per_class_recall"]["meningioma"] is None
    results = predict_scans(untrained, find_scans([tmp_path]).scans)
    flagged = [result.prediction.unlike_training for result in results if result.prediction]
    assert figures["out_of_distribution_share"] == pytest.approx(np.mean(flagged))
    assert [Path(each.scan.name).name for each in scores.unreadable] == ["broken.png"]
    assert figures["left_out"] == {
        "folders": [{"folder": "chest x-rays", "scans": 4, "reason": "not in a class map"}],
        "files": {"text file": 1},
        "unreadable": 1,
    }


def test_scans_of_none_of_the_classes_are_answered_wrongly_or_not_at_all(untrained: Classifier, tmp_path: Path) -> None:
    fill(tmp_path, {"other": 2, "Lymphoma": 3, "glioma": 2, "notumor": 1})
    figures = score_folder(untrained, tmp_path, folder_labels(MAPS, others=["lymphoma"])).to_json()
    assert (figures["n"], figures["n_other"], figures["other_selective"]["n"]) == (3, 5, 5)
    assert {point["risk"] for point in figures["other_selective"]["points"]} <= {1.0}
    known = list(predict_scans(untrained, find_scans([tmp_path / "glioma", tmp_path / "notumor"]).scans))
    healthy = [each.prediction.probabilities["notumor"] for each in known if each.prediction]
    *tumours, free = np.floor(2 * (np.log(healthy) - np.log1p(-np.array(healthy))))  # cells of half a unit of log odds
    assert figures["tumour_auc"] == pytest.approx(np.mean([(free > each) + (free == each) / 2 for each in tumours]))
    assert figures["selective"]["n"] == 3
    assert figures["left_out"]["folders"] == []


def test_a_folder_with_scans_of_none_of_the_classes_alone_has_figures(untrained: Classifier, tmp_path: Path) -> None:
    figures = score(untrained, fill(tmp_path, {"other": 2})).figures
    assert (figures["n"], figures["accuracy"], figures["n_other"], figures["tumour_auc"]) == (0, None, 2, None)


def test_a_class_folder_cannot_be_named_as_one_of_none_of_the_classes() -> None:
    with pytest.raises(ConfigError, match="--other Brain-Glioma: a folder of this name stands for glioma"):
        folder_labels(MAPS, others=["Brain-Glioma"])
    with pytest.raises(ConfigError, match="stands for pituitary at North but meningioma at South"):
        folder_labels(MAPS, others=["brain tumor"])
    assert folder_labels(MAPS, others=["Lymph_Oma"])["lymph oma"] == folder_labels({})["other"] == "other"


def test_class_folders_are_found_at_any_depth_and_by_the_class_maps_of_the_hospitals(
    untrained: Classifier, tmp_path: Path
) -> None:
    folders = {
        "Training/brain_glioma/patient 1": 1,
        "Testing/Tumeurs": 2,
        "Testing/no-tumour": 1,
        "glioma/pituitary": 1,
    }
    scores = score(untrained, fill(tmp_path, folders))
    assert scores.figures["n_per_class"] == {"glioma": 3, "meningioma": 0, "pituitary": 1, "notumor": 1}
    assert not scores.folders


def test_a_name_that_hospitals_use_for_different_classes_needs_the_hospital(
    untrained: Classifier, tmp_path: Path
) -> None:
    fill(tmp_path, {"glioma": 1, "glioma/brain tumor": 2})
    (folder,) = score(untrained, tmp_path).folders
    assert str(folder) == (
        "glioma/brain tumor/ (2 scans; it stands for pituitary at North but meningioma at South; "
        "say with --hospital which holds)"
    )
    assert score(untrained, tmp_path, "South").figures["n_per_class"]["meningioma"] == 2


def test_class_maps_are_joined() -> None:
    labels = folder_labels(MAPS)
    assert labels["brain tumor"] == Conflict("pituitary at North but meningioma at South")
    assert (labels["tumeurs"], labels["no tumor"]) == ("glioma", "notumor")
    assert "tumeurs" not in folder_labels(MAPS, "North")
    with pytest.raises(ConfigError, match="'East' is no hospital of the run; those with a class map are North, South"):
        folder_labels(MAPS, "East")


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (
            {"yes": 2, "no": 1},
            r"no/ \(1 scan; rename it to no_tumor if .*yes/ \(2 scans; a tumour of no particular class",
        ),
        ({"gliomas": 1}, r"gliomas/ \(1 scan; not in a class map; similar to 'glioma'\)"),
        ({"Testing/x": 1, ".": 1}, r"\./ \(1 scan; not in a class map\), Testing/x/"),
        ({str(k): 1 for k in range(8)}, r"4/ \(1 scan; not in a class map\) and 3 more"),
        (
            {},
            "no scan in it; expected folders such as .* as in the run's class maps, brain_glioma, brain_tumor, tumeurs",
        ),
    ],
)
def test_a_folder_of_which_nothing_can_be_scored_is_refused_with_what_was_found(
    untrained: Classifier, tmp_path: Path, folders: dict[str, int], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        score(untrained, fill(tmp_path, folders))


def test_a_class_folder_itself_a_file_and_a_missing_folder_are_refused(untrained: Classifier, tmp_path: Path) -> None:
    fill(tmp_path, {"glioma": 1, "Brain-Glioma": 1})
    for name in ("glioma", "Brain-Glioma"):
        with pytest.raises(DataError, match="it is itself a class folder; evaluate the folder above it"):
            score(untrained, tmp_path / name)
    with pytest.raises(DataError, match="is a file; expected a folder"):
        score(untrained, tmp_path / "glioma/0.png")
    with pytest.raises(DataError, match="no such folder"):
        score(untrained, tmp_path / "missing")


def test_class_folders_without_a_readable_scan_are_refused_with_the_reason(
    untrained: Classifier, tmp_path: Path
) -> None:
    (fill(tmp_path, {"glioma": 1}) / "glioma/0.png").write_bytes(b"")
    with pytest.raises(DataError, match="no scan in its class folders can be read; the first: the file is empty"):
        score(untrained, tmp_path)


def test_a_series_is_one_scan_but_never_one_of_two_classes(untrained: Classifier, tmp_path: Path) -> None:
    uid = generate_uid()
    for number, folder in enumerate(("glioma", "glioma", "pituitary")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"IM{number}").write_bytes(dicom(SeriesInstanceUID=uid, InstanceNumber=number))
    assert len(find_scans([tmp_path]).scans) == 1  # of a folder without classes
    entries, _ = list_folder(tmp_path)
    folders = sort_by_class(entries, tmp_path, folder_labels({}))
    assert [(str(each.path), len(each.found.scans)) for each in folders] == [("glioma", 1), ("pituitary", 1)]
