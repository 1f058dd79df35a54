"""TEST FACTORY, not data: a small complete run with figures chosen by hand, for pages to show.

The run is written through `artifacts`, which validates it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medisync import config
from medisync.evaluation.ood import FeatureDistribution
from medisync.schemas import (
    LABELS,
    Adaptation,
    AnswerFigures,
    AuditedImage,
    AuditRecord,
    BaselineModel,
    BaselineRecord,
    Calibration,
    ClassMetrics,
    CopyPair,
    DatasetStats,
    DetectionRate,
    ExternalAudit,
    ExternalEvaluation,
    ExternalImage,
    FolderAudit,
    HistoryEntry,
    HospitalAudit,
    HospitalScores,
    HospitalSplit,
    Interval,
    Label,
    LabelMap,
    Location,
    MembershipAttack,
    MembershipRecord,
    Metrics,
    ModelKind,
    ModelMeta,
    ModelMetrics,
    Overlap,
    PairedDifference,
    Refusal,
    ReliabilityBin,
    SelectiveMetrics,
    SelectivePoint,
    SplitImage,
    SplitRecord,
    StoredModel,
)
from medisync.workspace import adaptations, artifacts
from medisync.workspace.atomic import write_bytes

FEATURES = 640
"""Number of features of the network; `model.resnet.FEATURES` would import torch."""

HOSPITALS = {
    "AIIMS Delhi": (Location(lat=28.57, lon=77.21), "Neuro-oncology", (400, 380, 420, 500)),
    "NIMHANS Bengaluru": (Location(lat=12.94, lon=77.6), "Neurosurgery", (300, 160, 200, 0)),
    "Tata Memorial Mumbai": (Location(lat=19.0, lon=72.84), "Oncology", (180, 140, 20, 0)),
}
MATRICES = {
    "AIIMS Delhi": [[52, 5, 2, 1], [4, 49, 3, 1], [1, 2, 60, 0], [0, 1, 0, 74]],
    "NIMHANS Bengaluru": [[40, 4, 1, 0], [3, 20, 1, 0], [0, 1, 29, 0], [0, 0, 0, 0]],
    "Tata Memorial Mumbai": [[21, 5, 1, 0], [4, 16, 1, 0], [0, 1, 2, 0], [0, 0, 0, 0]],
}


LISTS = ("images", "overlaps", "examples", "conflicts")


def make_run(
    workspace: artifacts.Workspace,
    *,
    synthetic: bool = True,
    model: bytes = b"no weights",
    distance_threshold: float = 1e9,
    rounds: int = 6,
    splits: Mapping[str, Mapping[Label, str]] | None = None,
    local: bytes = b"",
    without: str = "",
    apart: bool = False,
    statistics: bytes = b"",
    statistics_of: str = "",
    thresholds: tuple[float, float] | None = None,
) -> Path:
    """Writes a completed run and returns its folder.

    `splits` gives the path of one test image for some classes of some hospitals, `local` the weights of the first
    hospital's own model, `without` the name of a missing artifact. `apart` makes it a run over a network, where
    hospitals keep the lists of their images to themselves. `statistics` are the bytes of the file with the running statistics of
    the hospital `statistics_of`. `thresholds` are the confidences for any answer and for one without doubt; a run without them
    is one before there were verdicts.
    """
    run = artifacts.allocate(workspace)
    write_bytes(run.folder / artifacts.CARD, b"# Model card\n")
    described = meta(run.name, synthetic, distance_threshold, thresholds)
    digests = _write_model(run.folder, (artifacts.MODEL, artifacts.DISTRIBUTION), model)
    if statistics:
        write_bytes(run.folder / artifacts.STATISTICS, statistics)
        digests["statistics_sha256"] = artifacts.sha256(run.folder / artifacts.STATISTICS)
        described = described.model_copy(update={"statistics_of": [statistics_of]})
    compared = baselines()
    if local:
        own = StoredModel(**dict(described) | _write_model(run.folder, artifacts.local_files(1), local))
        models = [each.model_copy(update={"stored": own}) if each.kind == "local" else each for each in compared.models]
        compared = compared.model_copy(update={"models": models})
    records = {
        artifacts.AUDIT: audit(synthetic).model_copy(update={key: [] for key in LISTS} if apart else {}),
        artifacts.STATS: datasets(),
        artifacts.HISTORY: history(),
        artifacts.LABEL_MAP: LabelMap(),
        artifacts.BASELINES: compared,
        artifacts.EXTERNAL: external(judged=thresholds is not None),
        artifacts.MEMBERSHIP: membership(),
        artifacts.META: described.model_copy(update=digests),
    }
    if splits is not None:
        records[artifacts.SPLITS] = split_record(splits)
    records.pop(without, None)
    for name, record in records.items():
        artifacts.write(run.folder, name, record)
    artifacts.commit(
        run,
        synthetic=synthetic,
        configuration={**config.TrainingConfig().model_dump(mode="json"), "rounds": rounds},
        software={"medisync": "0.1.0"},
        transport="over the network" if apart else "in one process",
    )
    return run.folder


def _write_model(folder: Path, names: tuple[str, str], weights: bytes) -> dict[str, str]:
    """Writes weights and a feature distribution, and returns their hashes as fields of StoredModel."""
    for name, content in zip(names, (weights, distribution().to_bytes()), strict=True):
        write_bytes(folder / name, content)
    hashes = [artifacts.sha256(folder / name) for name in names]
    return dict(zip(("model_sha256", "distribution_sha256"), hashes, strict=True))


def split_record(paths: Mapping[str, Mapping[Label, str]]) -> SplitRecord:
    def test_images(chosen: Mapping[Label, str]) -> list[SplitImage]:
        return [SplitImage(path=path, label=label, group=0, sha256="") for label, path in chosen.items()]

    hospitals = {name: HospitalSplit(train=[], val=[], test=test_images(chosen)) for name, chosen in paths.items()}
    return SplitRecord(
        seed=0, val_ratio=0.15, test_ratio=0.15, cross_hospital_duplicates="one-owner", hospitals=hospitals, notes=[]
    )


def datasets() -> dict[str, DatasetStats]:
    return {
        name: DatasetStats(
            total=sum(counts),
            class_distribution=dict(zip(LABELS, counts, strict=True)),
            location=location,
            specialty=specialty,
            found={label: number + 10 for label, number in zip(LABELS, counts, strict=True) if number},
            splits={
                "train": {label: number * 7 // 10 for label, number in zip(LABELS, counts, strict=True)},
                "val": {label: number * 15 // 100 for label, number in zip(LABELS, counts, strict=True)},
                "test": {label: sum(row) for label, row in zip(LABELS, MATRICES[name], strict=True)},
            },
        )
        for name, (location, specialty, counts) in HOSPITALS.items()
    }


def metrics(matrix: list[list[int]]) -> Metrics:
    """Returns the figures that follow from `matrix`; loss, calibration and intervals are invented."""
    total, correct = sum(map(sum, matrix)), sum(matrix[i][i] for i in range(4))
    per_class = {label: _class_metrics(matrix, index) for index, label in enumerate(LABELS)}
    recalls = [scores.recall for scores in per_class.values() if scores.recall is not None]
    f1s = [scores.f1 for scores in per_class.values() if scores.f1 is not None]
    accuracy, balanced, f1 = correct / total, sum(recalls) / len(recalls), sum(f1s) / len(f1s)
    return Metrics(
        n=total,
        loss=0.41,
        accuracy=accuracy,
        balanced_accuracy=balanced,
        macro_f1=f1,
        per_class=per_class,
        confusion_matrix=matrix,
        ece=0.028,
        macro_auc=0.91,
        coverage=0.914,
        set_size=1.21,
        unlike_training=0.043,
        selective=selective(total, flagged=0.05, wrong=1 - accuracy, sure=0.01),
        reliability=[
            ReliabilityBin(images=0, confidence=0, accuracy=0),
            ReliabilityBin(images=total // 6, confidence=0.56, accuracy=0.52),
            ReliabilityBin(images=total // 4, confidence=0.77, accuracy=0.8),
            ReliabilityBin(images=total // 2, confidence=0.97, accuracy=0.98),
        ],
        intervals={
            name: Interval(low=value - 0.03, high=min(1, value + 0.025))
            for name, value in {"accuracy": accuracy, "balanced_accuracy": balanced, "macro_f1": f1}.items()
        },
    )


def selective(n: int, *, flagged: float, wrong: float, sure: float) -> SelectiveMetrics:
    """Returns a curve of three points: half of the answers, four fifths and all of them, of which `wrong` are wrong."""
    answered = 1 - flagged
    points = ((0.5, 0.2, 0.97), (0.8, 0.5, 0.81), (1.0, 1.0, 0.34))
    return SelectiveMetrics(
        n=n,
        flagged=flagged,
        confidently_wrong=sure,
        intervals={"flagged": Interval(low=flagged - 0.02, high=flagged + 0.02)},
        points=[
            SelectivePoint(coverage=part * answered, risk=fraction * wrong, confidence=confidence)
            for part, fraction, confidence in points
        ],
    )


def with_answers(found: SelectiveMetrics, without_doubt: AnswerFigures, answered: AnswerFigures) -> SelectiveMetrics:
    return found.model_copy(update={"without_doubt": without_doubt, "answered": answered})


def judged_test(matrix: list[list[int]]) -> Metrics:
    """Returns the figures of `matrix`, of which 80 % get an answer without doubt, 10 % one with doubt and 10 % none."""
    found = metrics(matrix)
    assert found.selective
    sure, answered = AnswerFigures(coverage=0.8, risk=0.04), AnswerFigures(coverage=0.9, risk=0.07)
    return found.model_copy(update={"selective": with_answers(found.selective, sure, answered)})


def external(judged: bool = False) -> dict[str, ExternalEvaluation]:
    """Returns one external dataset: 40 scans of the four classes, of which 18 are right, and 30 of none of them.

    If they are `judged`, 30 % and 50 % of the 40 get an answer without doubt and any answer, and no or 10 % of the 30.
    """
    overconfident = [
        ReliabilityBin(images=20, confidence=0.6, accuracy=0.35),
        ReliabilityBin(images=20, confidence=0.95, accuracy=0.55),
    ]
    known = metrics([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [14, 8, 0, 14]]).model_copy(
        update={
            "ece": 0.38,
            "reliability": overconfident,
            "selective": selective(40, flagged=0.1, wrong=0.5, sure=0.125),
        }
    )
    none = selective(30, flagged=0.2, wrong=1.0, sure=0.2).model_copy(
        update={"points": [SelectivePoint(coverage=0.8, risk=1, confidence=0.31)]}
    )
    if judged:
        assert known.selective
        sure, answered = AnswerFigures(coverage=0.3, risk=0.1), AnswerFigures(coverage=0.5, risk=0.2)
        known = known.model_copy(update={"selective": with_answers(known.selective, sure, answered)})
        none = with_answers(none, AnswerFigures(coverage=0, risk=None), AnswerFigures(coverage=0.1, risk=1))
    return {
        "other clinic": ExternalEvaluation(
            source="A collection",
            licence="CC0",
            folders=[
                FolderAudit(name="healthy", label="notumor", images=36),
                FolderAudit(name="glioma", label="glioma", images=2),
                FolderAudit(name="meningioma", label="meningioma", images=2),
                FolderAudit(name="other_tumours", label="other", images=30),
            ],
            excluded={"copies of hospitals' scans": 3, "unreadable": 1},
            known=known,
            other_selective=none,
            tumour_auc=0.71,
            tumour_auc_external_healthy=0.68,
            tumour_auc_external_tumours=None,
            ood_auc_known=0.7,
            ood_fpr95_known=0.81,
            ood_auc_other=0.69,
            ood_fpr95_other=0.77,
        )
    }


def membership(overall: float = 0.55, worst: float = 0.58) -> MembershipRecord:
    """Returns attacks on two hospitals; on groups of all and of the second hospital the stronger one has these areas.

    Intervals reach 0.02 to either side.
    """
    first, second, _ = HOSPITALS
    areas = {None: (0.56, overall), first: (0.54, 0.51), second: (0.6, worst)}
    return MembershipRecord(
        attacks=[
            MembershipAttack(
                attack=kind,
                level=level,
                hospital=hospital,
                members=700,
                non_members=150,
                auc=area - weaker,
                interval=Interval(low=area - weaker - 0.02, high=area - weaker + 0.02),
                rates=[DetectionRate(false_positive_rate=0.01, true_positive_rate=0.03, interval=None)],
            )
            for hospital, pair in areas.items()
            for kind, weaker in (("loss", 0.01), ("reference", 0.0))
            for level, area in zip(("image", "group"), pair, strict=True)
        ],
        references={first: [second], second: [first]},
        not_attacked={"Tata Memorial Mumbai": "there are no training images or no test images"},
    )


def _class_metrics(matrix: list[list[int]], index: int) -> ClassMetrics:
    hits, support = matrix[index][index], sum(matrix[index])
    predicted = sum(row[index] for row in matrix)
    others = sum(map(sum, matrix)) - support
    return ClassMetrics(
        precision=hits / predicted if predicted and support else None,
        recall=hits / support if support else None,
        f1=2 * hits / (predicted + support) if support else None,
        support=support,
        specificity=(others - predicted + hits) / others if others else None,
        auc=0.91 if support and others else None,
        roc=[(0, 0), (0.1, 0.86), (1, 1)] if support and others else [],
    )


def distribution() -> FeatureDistribution:
    """Returns a distribution of training scans around zero, in the features of the network."""
    return FeatureDistribution(np.zeros((1, FEATURES), np.float32), np.eye(FEATURES, dtype=np.float32))


PRIORS: dict[str, dict[Label, float]] = {
    name: {label: 1.0 if count else 0.05 for label, count in zip(LABELS, counts, strict=True)}
    for name, (_, _, counts) in HOSPITALS.items()
}
"""Own priors: a class of which a hospital has no scans counts a twentieth there."""


def meta(
    run: str = "run-001",
    synthetic: bool = True,
    distance_threshold: float = 1e9,
    thresholds: tuple[float, float] | None = None,
) -> ModelMeta:
    """Returns the description of a run; with `thresholds` (any answer, without doubt) hospitals have priors of their own.

    As if their hospital were not known, 25 of the 75 healthy test scans are taken for gliomas.
    """
    found = _meta(run, synthetic, distance_threshold)
    if thresholds is None:
        return found
    fitted = found.calibration.model_copy(
        update=dict(zip(("doubt_threshold", "answer_threshold"), thresholds, strict=True))
    )
    elsewhere = judged_test([*total()[:3], [25, 0, 0, 50]])
    tested = {"test": judged_test(total()), "test_elsewhere": elsewhere}
    judged = {"calibration": fitted, "calibration_elsewhere": fitted, "hospital_priors": PRIORS}
    return found.model_copy(update={**judged, "metrics": found.metrics.model_copy(update=tested)})


def _meta(run: str, synthetic: bool, distance_threshold: float) -> ModelMeta:
    test = metrics(total())
    return ModelMeta(
        trained_at="2026-11-24T09:30:00+00:00",
        num_classes=4,
        num_epochs=6,
        best_epoch=5,
        device="cpu",
        datasets=datasets(),
        run=run,
        synthetic=synthetic,
        image_size=64,
        calibration=Calibration(
            temperature=1.3,
            distance_threshold=distance_threshold,
            mean_probabilities=dict(zip(LABELS, (0.4, 0.3, 0.2, 0.1), strict=True)),
            ece_before=0.061,
            ece_after=0.028,
        ),
        model_sha256="",
        distribution_sha256="",
        metrics=ModelMetrics(
            test_accuracy=test.accuracy,
            avg_f1=test.macro_f1,
            avg_precision=0.9,
            avg_recall=test.balanced_accuracy,
            best_val_accuracy=0.91,
            per_class=test.per_class,
            confusion_matrix=test.confusion_matrix,
            test=test,
            hospitals={name: metrics(matrix) for name, matrix in MATRICES.items()},
        ),
    )


def adaptation(name: str, model_sha256: str) -> Adaptation:
    """Returns what a hospital where seven of ten scans show a glioma estimated from 60 of them."""
    record = Adaptation(
        name=name,
        model_sha256=model_sha256,
        created_at="2026-11-28T12:00:00+00:00",
        scans=60,
        left_out={"text file": 1},
        flagged=2,
        assumed=dict.fromkeys(LABELS, 0.25),
        estimate={label: 0.7 if label == "glioma" else 0.1 for label in LABELS},
        prior={label: 0.7 if label == "glioma" else 0.1 for label in LABELS},
        intervals=dict.fromkeys(LABELS, Interval(low=0.05, high=0.75)),
        distance_threshold=1.5,
        sha256="",
    )
    return record.model_copy(update={"sha256": adaptations.digest(record)})


def total() -> list[list[int]]:
    """Returns the confusion matrix of all hospitals."""
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*MATRICES.values(), strict=True)]


def baselines() -> BaselineRecord:
    """Returns three models with the same figures; their differences are in `differences`."""
    hospitals = {name: metrics(matrix) for name, matrix in MATRICES.items()}
    test, names = metrics(total()), list(HOSPITALS)
    trained: list[tuple[ModelKind, list[str]]] = [("federated", names), ("local", names[:1]), ("pooled", names)]
    below = {"difference": -0.012, "low": -0.03, "high": 0.006, "mcnemar_p": 0.21}
    above = {"difference": 0.14, "low": 0.09, "high": 0.19, "mcnemar_p": 0.001}
    return BaselineRecord(
        models=[
            BaselineModel(kind=kind, trained_at=at, best_round=4, test=test, hospitals=hospitals)
            for kind, at in trained
        ],
        differences=[
            PairedDifference(kind="local", trained_at=names[:1], hospital="all hospitals", **above),
            PairedDifference(kind="pooled", trained_at=names, hospital="all hospitals", **below),
        ],
    )


def history() -> list[HistoryEntry]:
    """Returns six rounds; the third refuses a hospital, which has no figures in it."""
    losses, accuracies = (1.31, 0.92, 0.71, 0.55, 0.44, 0.47), (0.42, 0.63, 0.75, 0.85, 0.91, 0.9)
    return [_entry(number, *scores) for number, scores in enumerate(zip(losses, accuracies, strict=True), start=1)]


def _entry(number: int, loss: float, accuracy: float) -> HistoryEntry:
    refused = [Refusal(hospital="Tata Memorial Mumbai", reason="layer1.0.conv1.weight is not finite")]
    present = [name for name in HOSPITALS if number != 3 or name != "Tata Memorial Mumbai"]
    return HistoryEntry(
        epoch=number,
        learning_rate=1e-4,
        seconds=42.0,
        train_loss=loss * 0.8,
        train_accuracy=min(1, accuracy * 1.05),
        val_loss=loss,
        val_accuracy=accuracy,
        refused=refused if number == 3 else [],
        hospitals={
            name: HospitalScores(
                train_loss=loss * 0.8,
                train_accuracy=accuracy,
                val_loss=loss * (1 + 0.15 * index),
                val_accuracy=accuracy - 0.05 * index,
                train_images=500,
                val_images=100,
                seconds=12.0,
                update_norm=3.0 / number + index,
                drift=1.0 / number,
                bytes_down=90_000_000,
                bytes_up=45_000_000,
            )
            for index, name in enumerate(present)
        },
    )


def audit(synthetic: bool = True) -> AuditRecord:
    return AuditRecord(
        synthetic=synthetic,
        hospitals={name: _hospital_audit(name) for name in HOSPITALS},
        overlaps=[
            Overlap(hospital="AIIMS Delhi", other="NIMHANS Bengaluru", images=210),
            Overlap(hospital="NIMHANS Bengaluru", other="AIIMS Delhi", images=190),
        ],
        examples=[
            CopyPair(
                first="dataset-1/glioma/G_1.jpg", second="dataset-2/glioma/7.png", correlation=0.998, mirrored=True
            )
        ],
        conflicts=[],
        images=[
            AuditedImage(
                hospital="AIIMS Delhi",
                path="dataset-1/glioma/broken.jpg",
                label="glioma",
                group=None,
                status="unreadable",
                reason="the image is damaged (truncated)",
            ),
            AuditedImage(
                hospital="Tata Memorial Mumbai",
                path="dataset-3/scans_*misc*/1.jpg",
                label=None,
                group=None,
                status="unresolved",
                reason="folder 'scans_*misc*' is not in the class map",
            ),
        ],
        external={"other clinic": external_audit()},
    )


def external_audit() -> ExternalAudit:
    """Returns 70 scans to evaluate, and one image of each of two that are not."""
    copy = ExternalImage(path="other/glioma/7.png", label="glioma", group=1, excluded="copies of hospitals' scans")
    return ExternalAudit(
        path="other",
        folders=[
            *next(iter(external().values())).folders,
            FolderAudit(name="*misc*", label=None, images=1),
        ],
        total=70,
        excluded={"copies of hospitals' scans": 1, "in no class folder": 1},
        skipped={},
        notes=["1 folder is not in the class map and was left out: *misc*"],
        warnings=[],
        images=[
            copy,
            ExternalImage(path="other/*misc*/1.png", label=None, group=2, excluded="in no class folder"),
            ExternalImage(path="other/healthy/1.png", label="notumor", group=3),
        ],
    )


def _hospital_audit(name: str) -> HospitalAudit:
    counts = HOSPITALS[name][2]
    odd = name == "Tata Memorial Mumbai"
    folders = [
        FolderAudit(name=label, label=label, images=number)
        for label, number in zip(LABELS, counts, strict=True)
        if number
    ]
    return HospitalAudit(
        path=f"dataset-{list(HOSPITALS).index(name) + 1}",
        folders=[*folders, FolderAudit(name="scans_*misc*", label=None, images=1)] if odd else folders,
        class_distribution=dict(zip(LABELS, counts, strict=True)),
        total=sum(counts),
        unresolved=int(odd),
        unreadable=int(name == "AIIMS Delhi"),
        quarantined=0,
        skipped={"no image": 2},
        sizes={"256x256": sum(counts)},
        modes={"L": sum(counts)},
        patients=90 if name == "NIMHANS Bengaluru" else 0,
        exact_copies=4,
        near_copies=9,
        notes=["1 folder is not in the class map and was left out: scans_*misc*"] if odd else [],
        warnings=[f"the patient list covers 90 of {sum(counts)} usable images"] if name == "NIMHANS Bengaluru" else [],
        with_patient=90 if name == "NIMHANS Bengaluru" else 0,
    )
