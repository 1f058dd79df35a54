"""Many files: found, predicted in batches and scored."""

import json
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import encoded
from scans import save, texture

from medisync.errors import DataError
from medisync.inference import folders
from medisync.inference.predictor import Classifier, predict


def test_a_file_in_a_folder_gets_the_prediction_of_an_upload(untrained: Classifier, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}.png", texture(seed, 150)) for seed in range(70)]  # two batches, all cores
    results = list(folders.predict_files(untrained, paths))
    assert [result.path for result in results] == paths
    for seed in (0, 69):
        alone = predict(untrained, encoded(texture(seed, 150)))
        together = results[seed].prediction
        assert together is not None
        assert together.label == alone.label
        assert together.confidence == pytest.approx(alone.confidence, abs=0.02)  # bfloat16 batches round differently


def test_a_file_that_is_not_an_image_has_a_reason_instead_of_a_prediction(
    untrained: Classifier, tmp_path: Path
) -> None:
    good = save(tmp_path / "good.png", texture(1))
    (tmp_path / "bad.png").write_bytes(b"no image")
    results = list(folders.predict_files(untrained, [tmp_path / "bad.png", tmp_path / "gone.png", good]))
    assert [result.prediction is None for result in results] == [True, True, False]
    assert "not an image" in results[0].problem
    assert results[1].problem == "cannot be read: No such file or directory"


def test_images_below_folders_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.JPG", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    single = tmp_path / "a/notes.txt"
    assert folders.find_images([tmp_path]) == [tmp_path / "a/1.JPG", tmp_path / "b/2.png"]
    assert folders.find_images([single]) == [single]
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        folders.find_images([tmp_path / "nowhere"])


def test_a_folder_of_class_folders_is_scored(untrained: Classifier, tmp_path: Path) -> None:
    for folder, count in (("glioma", 2), ("No_Tumor", 3), ("chest x-rays", 4)):
        for number in range(count):
            save(tmp_path / folder / f"{number}.png", texture(10 * count + number, 150))
    (tmp_path / "glioma/broken.png").write_bytes(b"no")
    scores = folders.score_folder(untrained, tmp_path)
    figures = json.loads(json.dumps(scores.figures))
    matrix = np.array(figures["confusion_matrix"])
    assert figures["n"] == 5
    assert matrix.sum(axis=1).tolist() == [2, 0, 0, 3]
    assert figures["accuracy"] == pytest.approx(np.trace(matrix) / 5)
    assert figures["per_class_recall"]["meningioma"] is None
    results = folders.predict_files(untrained, folders.find_images([tmp_path]))
    flagged = [result.prediction.unlike_training for result in results if result.prediction]
    assert figures["out_of_distribution_share"] == pytest.approx(np.mean(flagged))
    assert [path.name for path, _ in scores.unreadable] == ["broken.png"]


def test_a_folder_without_images_is_refused(untrained: Classifier, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable image"):
        folders.score_folder(untrained, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        folders.score_folder(untrained, tmp_path / "missing")
