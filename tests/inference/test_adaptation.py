"""A model is adapted to a hospital from scans without labels, or refuses to be; its weights stay what they are."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import factories
import numpy as np
import pytest
import torch
from bad_inputs import dicom
from PIL import Image
from scans import save, texture

from medisync.errors import ConfigError, DataError, ModelError
from medisync.imaging.file_tree import LeftOut
from medisync.imaging.preprocessing import standardise
from medisync.inference import adaptation, predictor
from medisync.inference.adaptation import UnlabelledScans
from medisync.inference.folders import find_scans, predict_scans
from medisync.inference.predictor import Classifier
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.phantom.scanner import draw_slice
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS
from medisync.workspace import adaptations, artifacts

COUNT = 60


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of every class, each in the folder of one of twelve patients."""
    folder, generator = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    style = next(iter(STYLES.values()))
    for number in range(COUNT):
        drawn = draw_slice(LABELS[number % 4], style=style, generator=generator)
        save(folder / f"patient {number % 12}" / f"{number}.png", drawn.image)
    return folder


@pytest.fixture
def decided(scans: Path, tmp_path: Path) -> Path:
    """A run whose untrained model is certain of its answers, which differ from scan to scan."""
    state = build_resnet18(seed=3).state_dict()
    run = factories.make_run(artifacts.locate(tmp_path), model=serialise(state))
    images = [standardise(np.asarray(Image.open(file)), 64) for file in sorted(scans.rglob("*.png"))]
    mean = predictor.forward(predictor.open_run(run), np.stack(images))[0].mean(axis=0)
    state["fc.bias"] -= torch.from_numpy(mean).to(state["fc.bias"].dtype)
    run = factories.make_run(artifacts.locate(tmp_path), model=serialise(state))
    meta = artifacts.read(run, artifacts.META)
    certain = meta.calibration.model_copy(update={"temperature": 1e-4, "distance_threshold": 100.0})
    artifacts.write(run, artifacts.META, meta.model_copy(update={"calibration": certain}))
    return run


def answers(classifier: Classifier, folder: Path) -> list[str]:
    return [each.prediction.label for each in predict_scans(classifier, find_scans([folder]).scans) if each.prediction]


def adapted(run: Path, folder: Path, name: str = "South") -> Classifier:
    classifier = predictor.open_run(run)
    read = adaptation.read_scans(classifier, folder)
    adaptations.write(run, adaptation.adapt(classifier, name, read, np.random.default_rng(0)))
    return predictor.open_run(run, name)


def made_up(count: int, flagged: int = 0) -> UnlabelledScans:
    """Scans of which the model is certain: some of the last class, far from all training scans, and half and half of two."""
    far, numbers = np.arange(count) < flagged, np.arange(count)
    scores = np.where(far, 1e3, np.linspace(0.5, 1.5, count))
    return UnlabelledScans(np.eye(4)[np.where(far, 3, numbers % 2)], scores, numbers, LeftOut())


def adapt(classifier: Classifier, scans: UnlabelledScans) -> object:
    return adaptation.adapt(classifier, "South", scans, np.random.default_rng(0))


def test_certain_answers_are_counted(decided: Path, scans: Path) -> None:
    counts = Counter(answers(predictor.open_run(decided), scans))
    assert len(counts) > 1
    record = adapted(decided, scans).adaptation
    assert record is not None
    assert (record.scans, record.flagged, record.left_out) == (COUNT, 0, {})
    for label in LABELS:
        assert record.estimate[label] == pytest.approx(counts[label] / COUNT, abs=0.02)
        assert record.intervals[label].low <= counts[label] / COUNT <= record.intervals[label].high


def test_probabilities_are_multiplied_with_the_estimated_prior_over_the_assumed_one(decided: Path) -> None:
    meta = artifacts.read(decided, artifacts.META)
    warm = meta.model_copy(update={"calibration": meta.calibration.model_copy(update={"temperature": 1.7})})
    plain = replace(predictor.open_run(decided), meta=warm)
    own = replace(plain, hospital="South", adaptation=factories.adaptation("South", meta.model_sha256))
    pixels = np.stack([texture(seed, 64) for seed in range(5)])
    for before, after in zip(predictor.predict_batch(plain, pixels), predictor.predict_batch(own, pixels), strict=True):
        weighted = {label: before.probabilities[label] * (2.8 if label == "glioma" else 0.4) for label in LABELS}
        expected = {label: each / sum(weighted.values()) for label, each in weighted.items()}
        assert after.probabilities == pytest.approx(expected)
        assert after.distance == before.distance


def test_no_answer_without_doubt_that_the_model_alone_would_not_give(decided: Path) -> None:
    """At twice the probability of before, scans whose confidence rises over the threshold are answered with doubt."""
    meta = artifacts.read(decided, artifacts.META)
    pixels = np.stack([texture(seed, 64) for seed in range(24)])
    warm = meta.calibration.model_copy(update={"temperature": 0.3})
    plain = replace(predictor.open_run(decided), meta=meta.model_copy(update={"calibration": warm}))
    scans = predictor.predict_batch(plain, pixels)
    limits = {
        "distance_threshold": float(np.median([each.distance for each in scans])),
        "answer_threshold": float(np.median([each.confidence for each in scans])),
        "doubt_threshold": 0.0,
    }
    judged = replace(plain, meta=meta.model_copy(update={"calibration": warm.model_copy(update=limits)}))
    record = factories.adaptation("South", meta.model_sha256).model_copy(update={"distance_threshold": 1e3})
    own = replace(judged, hospital="South", adaptation=record)
    raised = 0
    for alone, each in zip(predictor.predict_batch(judged, pixels), predictor.predict_batch(own, pixels), strict=True):
        assert not each.unlike_training
        if each.verdict == "answer":
            assert (alone.verdict, alone.label) == ("answer", each.label)
        raised += alone.verdict == "no answer" and each.verdict == "doubt"
    assert raised


def test_scans_of_the_hospital_are_flagged_by_its_own_threshold(decided: Path, scans: Path) -> None:
    classifier = adapted(decided, scans)
    plain = predictor.open_run(decided)
    scores = sorted(adaptation.read_scans(plain, scans).ood_scores)
    assert max(scores) < 100
    assert classifier.calibration.distance_threshold == max(scores[56], 50.0)
    assert classifier.calibration == plain.calibration.model_copy(
        update={"distance_threshold": classifier.calibration.distance_threshold}
    )


def test_adapting_changes_no_weights(decided: Path, scans: Path) -> None:
    files = {file.name: file.read_bytes() for file in decided.iterdir() if file.is_file()}
    pixels = np.stack([texture(seed, 64) for seed in range(3)])
    before = predictor.forward(predictor.open_run(decided), pixels)[0]
    own = adapted(decided, scans)
    assert {name: (decided / name).read_bytes() for name in files} == files
    assert {file.name for file in decided.iterdir() if file.is_file()} - files.keys() == {"adaptation-south.json"}
    assert np.array_equal(predictor.forward(predictor.open_run(decided), pixels)[0], before)
    assert predictor.forward(own, pixels)[0] - own.adjustment == pytest.approx(before, abs=1e-6)


def test_files_are_counted_by_kind_and_copies_left_out(decided: Path, scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for file in [*scans.rglob("*.png")][:3]:
        save(folder / file.name, np.asarray(Image.open(file)))
    first = next(iter(folder.iterdir())).read_bytes()
    (folder / "again.png").write_bytes(first)
    (folder / "broken.png").write_bytes(first[:200])
    (folder / "notes.txt").write_text("text")
    (folder / "IM1").write_bytes(dicom())
    read = adaptation.read_scans(predictor.open_run(decided), folder)
    assert len(read.ood_scores) == 4
    kinds = {reason.partition(":")[0]: count for reason, count in read.left_out.counts.items()}
    assert kinds == {"text file": 1, "copied scan": 1, "unreadable scan": 1}


def test_scans_of_one_patient_are_one_group_where_folders_are_patients(decided: Path, scans: Path) -> None:
    classifier = predictor.open_run(decided)
    assert len(np.unique(adaptation.read_scans(classifier, scans).groups)) == COUNT
    assert len(np.unique(adaptation.read_scans(classifier, scans, patient_folders=True).groups)) == 12


def test_answers_that_decide_nothing_are_refused(untrained: Classifier) -> None:
    assumed = np.array([0.4, 0.3, 0.2, 0.1])  # of the factory
    with pytest.raises(DataError, match=r"the estimate is unstable: .*bring more scans. Nothing was written"):
        adapt(with_threshold(untrained, 10.0), replace(made_up(200), probabilities=np.tile(assumed, (200, 1))))


def with_threshold(classifier: Classifier, threshold: float) -> Classifier:
    calibration = classifier.meta.calibration.model_copy(update={"distance_threshold": threshold})
    return replace(classifier, meta=classifier.meta.model_copy(update={"calibration": calibration}))


@pytest.mark.parametrize(
    ("count", "flagged", "refused"),
    [
        (49, 0, r"49 scans can be used \(49 read, 0 of them out of distribution\), at least 50 are needed; bring more"),
        (0, 0, r"0 scans can be used \(0 read"),
        (52, 3, r"49 scans can be used \(52 read, 3 of them out of distribution\)"),
        (200, 200, r"200 of 200 scans are out of distribution, of the hospitals' own scans 5.0 % are"),
        (200, 31, "31 of 200 scans are out of distribution"),
    ],
)
def test_too_few_scans_and_scans_that_the_model_does_not_know_are_refused(
    untrained: Classifier, count: int, flagged: int, refused: str
) -> None:
    with pytest.raises(DataError, match=rf"{refused}.*Nothing was written"):
        adapt(with_threshold(untrained, 10.0), made_up(count, flagged))


def test_some_flagged_scans_are_left_out_of_the_prior(untrained: Classifier) -> None:
    record = adapt(with_threshold(untrained, 10.0), made_up(200, 20))
    assert isinstance(record, adaptation.Adaptation)
    assert (record.scans, record.flagged) == (200, 20)
    assert list(record.estimate.values()) == pytest.approx([0.5, 0.5, 0, 0], abs=1e-5)
    assert record.distance_threshold == 12.5  # the 190th of 200 is one of those far away, so the bound holds


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [(np.arange(1, 101) / 50, 1.9), (np.full(60, 9.0), 2.0), (np.full(60, 0.1), 0.8)],
    ids=["95th of 100", "at most a quarter more", "at least half"],
)
def test_the_threshold_is_exceeded_by_one_in_twenty_and_bounded(scores: np.ndarray, threshold: float) -> None:
    assert adaptation.own_threshold(scores, 1.6) == pytest.approx(threshold)


def test_a_hospital_that_the_model_knows_needs_no_adaptation(untrained: Classifier) -> None:
    meta = untrained.meta.model_copy(update={"hospital_priors": {"North": dict.fromkeys(LABELS, 1.0)}})
    known = replace(untrained, meta=meta)
    with pytest.raises(ConfigError, match="--name north: the model has a calibration of its own"):
        adaptation.require_adaptable(known, " north ")
    assert adaptation.require_adaptable(known, " South ") == "South"


def test_a_name_that_is_neither_known_nor_adapted_is_answered_with_those_that_are(decided: Path, scans: Path) -> None:
    with pytest.raises(ConfigError, match="the model is the same for scans of all hospitals; name no hospital"):
        predictor.open_run(decided, "South")
    adapted(decided, scans)
    with pytest.raises(ConfigError, match="'West': the model distinguishes South only; name one of these, or none"):
        predictor.open_run(decided, "West")


def test_a_model_refuses_the_adaptation_of_another(decided: Path) -> None:
    adaptations.write(decided, factories.adaptation("South", "0" * 64))
    with pytest.raises(ModelError, match=r"adaptation-south.json is for another model .*estimate it anew with"):
        predictor.open_run(decided, "South")


def test_the_assumed_prior_is_the_mean_over_validation(untrained: Classifier) -> None:
    record = adapt(with_threshold(untrained, 10.0), made_up(200))
    assert isinstance(record, adaptation.Adaptation)
    assert list(record.assumed.values()) == [0.4, 0.3, 0.2, 0.1]


def test_a_run_before_it_was_recorded_is_refused(untrained: Classifier) -> None:
    calibration = untrained.meta.calibration.model_copy(update={"mean_probabilities": None})
    old = replace(untrained, meta=untrained.meta.model_copy(update={"calibration": calibration}))
    with pytest.raises(ModelError, match=r"did not record which class frequencies .*; use a newer run, or train again"):
        adaptation.require_adaptable(old, "South")
