"""One model per JSON artifact: the contract between the notebook and the dashboard.

Every artifact is validated when it is written and when it is read. Fractions are in [0, 1]; an undefined metric, for
example of a class without images, is `None`, never 0.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

Label = Literal["glioma", "meningioma", "pituitary", "notumor"]
LABELS: tuple[Label, ...] = get_args(Label)
"""The classes; the position of a label is its index in the model's output."""

ExternalLabel = Literal[Label, "other"]
"""Label of a folder of an external dataset."""

OTHER: Literal["other"] = "other"
"""Label of scans that are of none of the classes."""

FORMAT = 1
"""Version of the artifacts' format, increased with changes that older programs would misread; new keys are not such."""

PHANTOM_MARKER = "PHANTOM.json"
"""Name of a file in the dataset folder that marks its images as synthetic; whoever shows them must say so."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
ConfusionMatrix = Annotated[
    list[Annotated[list[Count], Field(min_length=len(LABELS), max_length=len(LABELS))]],
    Field(min_length=len(LABELS), max_length=len(LABELS)),
]
"""Rows are true labels, columns predicted labels, both in the order of `LABELS`."""


class Record(BaseModel):
    """An immutable record; ignores unknown keys, which a newer version may have added."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Location(Record):
    """A position in degrees (WGS 84)."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]


ImageStatus = Literal["ok", "unresolved", "unreadable", "quarantined"]


class AuditedImage(Record):
    """One file with an image's suffix; `path` is relative to the dataset folder of the workspace."""

    hospital: str
    path: str
    label: Label | None
    """Class of the folder; None if the folder is not in the class map."""
    group: int | None
    """Number shared by images that belong in one split: copies of a slice, slices of a patient; None if not decoded."""
    slice: int | None = None
    """Number shared by images of the same slice (copies, mirrored or re-encoded); finer than `group`."""
    status: ImageStatus
    reason: str = ""
    """Reason for a status other than "ok", in words."""
    patient: str | None = None
    sha256: str = ""
    width: Count = 0
    height: Count = 0
    mode: str = ""
    notes: list[str] = []
    """Conversions on the way to grey pixels, and oddities of the file."""


class FolderAudit(Record):
    """One folder of images and the label that its name stands for at this hospital, or in this external dataset."""

    name: str
    label: ExternalLabel | None
    """Never "other" at a hospital."""
    images: Count


class HospitalAudit(Record):
    """The contents of one hospital's dataset folder."""

    path: str
    folders: list[FolderAudit]
    class_distribution: dict[Label, Count]
    """Usable images (those with the status "ok") per class."""
    total: Count
    """Usable images."""
    unresolved: Count
    unreadable: Count
    quarantined: Count
    skipped: dict[str, Count]
    """Number of files that are not images and of entries that could not be read, by reason."""
    sizes: dict[str, Count]
    """Number of images by "WIDTHxHEIGHT", for the ten most frequent sizes, and of "other" sizes."""
    modes: dict[str, Count]
    patients: Count
    exact_copies: Count
    """Images whose bytes or pixels occur earlier in the same hospital."""
    near_copies: Count
    """Images that show a slice which occurs earlier in the same hospital, in other pixels."""
    notes: list[str]
    warnings: list[str] = []
    """Notes on what was left out, and on what is not known about patients; of older runs they are among the notes."""
    with_patient: Count | None = None
    """Usable images whose patient is known; None in runs before it was counted."""


class Overlap(Record):
    """Number of images of `hospital` that show a slice which `other` also has."""

    hospital: str
    other: str
    images: Count


class CopyPair(Record):
    """Two images that show the same slice, with the correlation of their thumbnails in [-1, 1]."""

    first: str
    second: str
    correlation: Annotated[float, Field(ge=-1, le=1)]
    mirrored: bool


class LabelConflict(Record):
    """One slice under several labels; all its images are quarantined."""

    slice: int
    paths: list[str]
    labels: list[Label]


class ExternalImage(Record):
    """One image of an external dataset; `path` is relative to the dataset folder of the workspace."""

    path: str
    label: ExternalLabel | None
    group: int | None
    """Number shared by images of one slice or one patient of the dataset; None if not decoded."""
    sha256: str = ""
    excluded: str = ""
    """Reason why the image is not evaluated, in words; empty for one that is."""


class ExternalAudit(Record):
    """The contents of one external dataset, of which nothing is trained, calibrated or selected on."""

    path: str
    source: str = ""
    licence: str = ""
    folders: list[FolderAudit]
    """Folders with the number of images found in them."""
    total: Count
    """Images to evaluate."""
    excluded: dict[str, Count]
    """Number of images that are not evaluated, by reason: such as those that show a slice which a hospital has."""
    skipped: dict[str, Count]
    """Number of files that are not images and of entries that could not be read, by reason."""
    notes: list[str]
    warnings: list[str]
    images: list[ExternalImage]


class AuditRecord(Record):
    """audit.json: every image of every hospital, with faults, copies and conflicting labels."""

    synthetic: bool
    hospitals: dict[str, HospitalAudit]
    overlaps: list[Overlap]
    """Overlaps of ordered pairs of hospitals; zeros are omitted."""
    examples: list[CopyPair]
    """A sample of pairs, across hospitals and within them, to check by eye."""
    conflicts: list[LabelConflict]
    images: list[AuditedImage]
    external: dict[str, ExternalAudit] = {}
    """External datasets by their ids in DATASETS. Nothing above depends on them."""


class SplitImage(Record):
    """One image of a split; `path` is relative to the dataset folder of the workspace."""

    path: str
    label: Label
    group: int
    sha256: str


class HospitalSplit(Record):
    train: list[SplitImage]
    val: list[SplitImage]
    test: list[SplitImage]


class SplitRecord(Record):
    """dataset_splits.json: the images of each split. No group occurs in two splits, within or across hospitals."""

    seed: int
    val_ratio: Fraction
    test_ratio: Fraction
    cross_hospital_duplicates: Literal["one-owner", "keep", "report"]
    hospitals: dict[str, HospitalSplit]
    notes: list[str]


class DatasetStats(Record):
    """One hospital in dataset_stats.json and in model_meta.json: counts of the images that the run used."""

    total: Count
    class_distribution: dict[Label, Count]
    location: Location
    specialty: str = ""
    found: dict[Label, Count] = {}
    """Usable images before cross-hospital copies were given to one owner."""
    splits: dict[Split, dict[Label, Count]] = {}
    with_patient: Count | None = None
    """Usable images whose patient is known; None in runs before it was counted."""
    left_out: dict[ImageStatus | Literal["skipped"], Count] = {}
    """Files that could not be used, by the audit's status; "skipped" are those that are no images."""


class Scores(Record):
    """Figures of one round: training figures are means over the local epochs, validation figures the global model's."""

    train_loss: float | None
    train_accuracy: Fraction | None
    val_loss: float | None
    val_accuracy: Fraction | None


class HospitalScores(Scores):
    train_images: Count = 0
    val_images: Count = 0
    seconds: float = 0.0
    update_norm: float | None = None
    """L2 distance between the returned and the received weights (BatchNorm statistics left out)."""
    drift: float | None = None
    """Client drift: L2 distance from the returned weights to the aggregate; None in runs before it was measured."""
    bytes_down: Count = 0
    """Size of the arrays that the hospital received in this round."""
    bytes_up: Count = 0
    """Size of the arrays that the hospital sent in this round."""


class Refusal(Record):
    """A hospital and the reason why its update did not enter the average, or a remark on one that did."""

    hospital: str
    reason: str


class HistoryEntry(Scores):
    """One entry of training_history.json. `epoch` counts rounds of the global model, from 1."""

    epoch: Annotated[int, Field(ge=1)]
    learning_rate: float
    image_size: Count = 0
    """Side of the images in this round, in training and validation."""
    seconds: float
    weights_sha256: str = ""
    """SHA-256 of the global weights after this round: two runs with the same one agree to the bit."""
    hospitals: dict[str, HospitalScores]
    refused: list[Refusal] = []
    remarks: list[Refusal] = []
    """Oddities of updates that entered the average: weights left unchanged, or a change far longer than the median.

    Such a change is clipped to the median norm, except by robust strategies.
    """


class Progress(Record):
    """progress.json: the state of a run in progress, rewritten while it trains."""

    stage: Literal["audit", "training", "evaluation", "done"]
    round: Count = 0
    rounds: Count = 0
    hospital: str = ""
    images_per_second: float | None = None
    seconds_left: float | None = None
    updated_at: str = ""


class Interval(Record):
    """A 95 % confidence interval over groups of related images."""

    low: Fraction
    high: Fraction


class ClassMetrics(Record):
    precision: Fraction | None
    recall: Fraction | None
    """Also called sensitivity."""
    f1: Fraction | None
    support: Count
    specificity: Fraction | None = None
    auc: Fraction | None = None
    """Area under the one-versus-rest ROC curve."""
    roc: list[tuple[Fraction, Fraction]] = []
    """Points of that curve, false positive rate and sensitivity, from (0, 0) to (1, 1)."""
    intervals: dict[str, Interval] = {}
    """Intervals of the figures above, by their names."""


class ReliabilityBin(Record):
    """Predictions with a confidence in one of 15 equal bins."""

    images: Count
    confidence: Fraction
    accuracy: Fraction


Verdict = Literal["answer", "doubt", "no answer"]
"""What a prediction is worth: an answer, an answer with doubt, or no answer."""

VerdictReason = Literal["out of distribution", "low confidence", "moderate confidence", "image checks"]
"""Why a prediction is less than an answer: its scan is flagged; its confidence is below the threshold for any answer, or below
that for an answer without doubt; or its image failed a check."""


class SelectivePoint(Record):
    """One point of a risk-coverage curve: what it costs to answer all scans of at least this confidence."""

    coverage: Fraction
    """Fraction of all scans that are answered."""
    risk: Fraction
    """Fraction of the answers that are wrong."""
    confidence: Fraction


class AnswerFigures(Record):
    """How much is answered, and how often wrongly."""

    coverage: Fraction
    """Fraction of all scans that are answered."""
    risk: Fraction | None
    """Fraction of the answers that are wrong; None without answers."""


class SelectiveMetrics(Record):
    """What a model answers, and how often wrongly, if it gives no answer for scans that are out of distribution."""

    n: Annotated[int, Field(ge=1)]
    flagged: Fraction
    """Fraction of scans that are out of distribution."""
    confidently_wrong: Fraction
    """Fraction of scans that are wrong with a confidence above 0.9, and not flagged."""
    intervals: dict[str, Interval] = {}
    """Intervals of `flagged` and `confidently_wrong`, by name; of a fraction of 0 or 1 there is none."""
    without_doubt: AnswerFigures | None = None
    """Answers without doubt, as far as confidence decides: checks of image files are left out. None in runs before there were
    verdicts."""
    answered: AnswerFigures | None = None
    """All answers, with doubt or without."""
    points: list[SelectivePoint] = []
    """Risk-coverage curve, from the most confident scans to all that are not flagged: its last coverage is 1 - `flagged`.

    Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500.
    """


class Metrics(Record):
    """Figures of a model on a set of labelled images; averages are over the classes that occur in the set."""

    n: Count
    loss: float | None
    accuracy: Fraction | None
    balanced_accuracy: Fraction | None
    macro_f1: Fraction | None
    per_class: dict[Label, ClassMetrics]
    confusion_matrix: ConfusionMatrix
    ece: Fraction | None
    """Expected calibration error over 15 equal-width bins, after temperature scaling."""
    macro_auc: Fraction | None = None
    brier: Annotated[float, Field(ge=0, le=2)] | None = None
    """Mean squared distance of the probabilities from the true class, after temperature scaling."""
    coverage: Fraction | None = None
    """Fraction of images whose 90 % prediction set contains the true class."""
    set_size: Annotated[float, Field(ge=0)] | None = None
    """Mean number of classes in a prediction set."""
    unlike_training: Fraction | None = None
    """Fraction of images that are out of distribution: further from the training scans than 95 % of validation."""
    reliability: list[ReliabilityBin] = []
    selective: SelectiveMetrics | None = None
    """None without images, and in runs before it was computed."""
    intervals: dict[str, Interval] = {}
    """Intervals of accuracy, balanced_accuracy, macro_f1 and macro_auc, by name."""


class Calibration(Record):
    """Temperature and thresholds, fitted on validation images only."""

    temperature: Annotated[float, Field(gt=0)]
    distance_threshold: Annotated[float, Field(gt=0)]
    """Distance from the training scans beyond which a scan is out of distribution; 95 % of validation is nearer."""
    conformal_threshold: Fraction = 1.0
    """Nonconformity up to which a class is in the prediction set; 90 % of validation sets contain the true class."""
    answer_threshold: Annotated[float, Field(ge=0)] | None = None
    """Confidence from which a prediction is an answer; above 1 if none suffices. None in runs before there were verdicts."""
    doubt_threshold: Annotated[float, Field(ge=0)] | None = None
    """Confidence below which a prediction is no answer; from here to `answer_threshold` it is an answer with doubt."""
    mean_probabilities: dict[Label, Fraction] | None = None
    """Mean probability of each class: the class frequencies that probabilities assume. None in runs before it was recorded."""
    answer_risk: Fraction = 0.1
    """Fraction of the answers without doubt that may be wrong: `answer_threshold` was chosen for it."""
    doubt_risk: Fraction = 0.2
    """Fraction of all answers that may be wrong: `doubt_threshold` was chosen for it."""
    risk_failure: Fraction = 0.1
    """Probability, over the draw of the validation images, that such a fraction is exceeded after all."""
    ece_before: Fraction | None
    ece_after: Fraction | None
    brier_before: float | None = None
    brier_after: float | None = None


class ScoreHistograms(Record):
    """Scores of the hospitals' test scans, all together, with which scans from elsewhere are compared.

    The cells are those between LOG_ODDS_EDGES and between OOD_SCORE_EDGES of `evaluation.totals`.
    """

    tumour: list[Count]
    """Scans with a tumour by the log odds of "no tumour"."""
    healthy: list[Count]
    """Scans without one, by the same."""
    ood_scores: list[Count]


class ModelMetrics(Record):
    """`metrics` of model_meta.json: the global model on the test split, all hospitals together."""

    test_accuracy: Fraction
    avg_f1: Fraction
    avg_precision: Fraction
    avg_recall: Fraction
    best_val_accuracy: Fraction
    per_class: dict[Label, ClassMetrics]
    confusion_matrix: ConfusionMatrix
    test: Metrics
    """All figures of the same test set, with calibration and intervals."""
    hospitals: dict[str, Metrics]
    test_elsewhere: Metrics | None = None
    """Figures of the same test set as if the scans' hospitals were not known; None if that makes no difference."""
    histograms: ScoreHistograms | None = None
    """None in runs before they were recorded."""


class StoredModel(Record):
    """Everything needed to predict with the files of a model and to verify them."""

    image_size: int
    calibration: Calibration
    """For scans of the hospitals of the run, each under its own prior."""
    calibration_elsewhere: Calibration | None = None
    """For scans whose hospital is not known; None if it is the same."""
    hospital_priors: dict[str, dict[Label, Fraction]] = {}
    """What a class's probability is multiplied with at a hospital, before all are divided by their sum: below 1 for classes of
    which the hospital has no training scans. Empty if the model is the same for scans from everywhere."""
    model_sha256: str
    distribution_sha256: str
    """SHA-256 of the file with the distribution of the training scans' features."""
    statistics_sha256: str = ""
    """SHA-256 of the file with each hospital's running statistics; empty if all hospitals share them."""
    statistics_of: list[str] = []
    """Hospitals in that file."""

    @property
    def distinguishes(self) -> list[str]:
        """Hospitals whose scans the model predicts in a way of their own; none if it treats all scans alike."""
        return sorted({*self.statistics_of, *self.hospital_priors})

    def calibration_at(self, hospital: str) -> Calibration:
        """The calibration for scans of a hospital: one of the run, or any other, of which nothing is known."""
        elsewhere = self.calibration_elsewhere or self.calibration
        return self.calibration if hospital in self.distinguishes else elsewhere


class ModelMeta(StoredModel):
    """model_meta.json: the published model, its data and its figures."""

    trained_at: str
    num_classes: int
    num_epochs: int
    best_epoch: int
    device: Literal["cpu", "cuda"]
    datasets: dict[str, DatasetStats]
    metrics: ModelMetrics
    run: str
    synthetic: bool


class Adaptation(Record):
    """adaptation-NAME.json: a calibration for scans of a hospital from outside the run, from scans of its own without labels.

    It never changes the weights. `sha256` finds damage and stray edits; it is no signature: whoever means to deceive can
    compute it too.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    """The hospital, as `--hospital` takes it."""
    model_sha256: str
    """SHA-256 of the weights that it is for."""
    created_at: str
    scans: Count
    """Scans that were read, each once."""
    left_out: dict[str, Count]
    """Number of files and scans that were not used, by reason."""
    flagged: Count
    """Scans of `scans` that are out of distribution for the model; the prior is estimated from the others."""
    assumed: dict[Label, Annotated[float, Field(gt=0, le=1)]]
    """Prior that the model's probabilities assume."""
    estimate: dict[Label, Fraction]
    """Most likely fraction of each class among the hospital's scans."""
    intervals: dict[Label, Interval]
    """Of the estimate."""
    prior: dict[Label, Annotated[float, Field(gt=0, le=1)]]
    """Prior that the hospital's scans are predicted under: as near to the assumed one as the intervals allow."""
    distance_threshold: Annotated[float, Field(gt=0)]
    """Distance from the training scans beyond which a scan of the hospital is out of distribution."""
    sha256: str
    """SHA-256 of all other fields."""

    @field_validator("assumed", "estimate", "intervals", "prior")
    @classmethod
    def _has_all_classes(cls, by_label: dict[Label, object]) -> dict[Label, object]:
        if missing := [label for label in LABELS if label not in by_label]:
            raise ValueError(f"{missing[0]} is missing")
        return by_label


class ExternalFigures(Record):
    """A model's figures on scans from outside the hospitals, read once, after the test split; None where undefined.

    Areas compare pairs of scans, one of each side, and are 1 for a perfect order and 0.5 for none.
    """

    known: Metrics | None
    """Scans of the four classes; `known.selective` says what is answered of them."""
    other_selective: SelectiveMetrics | None
    """Scans of none of the classes, for which every answer is wrong."""
    tumour_auc: Fraction | None
    """Scans of a tumour class against scans without a tumour, both external, by the log odds of "no tumour"."""
    tumour_auc_external_healthy: Fraction | None
    """External scans without a tumour against the hospitals' test scans with one."""
    tumour_auc_external_tumours: Fraction | None
    """External scans of a tumour class against the hospitals' test scans without one."""
    ood_auc_known: Fraction | None
    """OOD score: external scans of the four classes against the hospitals' test scans."""
    ood_fpr95_known: Fraction | None
    """Fraction of the hospitals' test scans that are flagged where 95 % of these external scans are."""
    ood_auc_other: Fraction | None
    """OOD score: external scans of none of the classes against the hospitals' test scans."""
    ood_fpr95_other: Fraction | None
    """Fraction of the hospitals' test scans that are flagged where 95 % of these external scans are."""


class ExternalEvaluation(ExternalFigures):
    """One external dataset in external.json: where its scans come from, which were evaluated, and the figures."""

    source: str
    licence: str
    folders: list[FolderAudit]
    """Folders with the number of scans evaluated in each."""
    excluded: dict[str, Count]
    """Number of scans found but not evaluated, by reason."""


AttackKind = Literal["loss", "margin", "reference"]
"""What membership is inferred from: the loss, the margin of the true class, or the ratio to models trained elsewhere."""

AttackLevel = Literal["image", "group"]


class DetectionRate(Record):
    """Fraction of the members that an attack finds while it takes no more than this fraction of non-members for members."""

    false_positive_rate: Fraction
    true_positive_rate: Fraction
    interval: Interval | None


class MembershipAttack(Record):
    """How well an attack tells training images, or groups of them, from those of the test split of the same hospital."""

    attack: AttackKind
    level: AttackLevel
    hospital: str | None
    """None for all hospitals together, with one threshold."""
    members: Count
    """Images or groups of the training split."""
    non_members: Count
    """Images or groups of the test split."""
    auc: Fraction
    """Area under the ROC curve; 0.5 is chance."""
    interval: Interval | None
    """None with fewer than two groups of either kind."""
    rates: list[DetectionRate] = []
    """At 1 % false positives with at least 100 non-members, at 0.1 % with at least 1000 groups of non-members."""


class MembershipRecord(Record):
    """membership.json: attacks on the global model, made where all hospitals' images are in one process."""

    attacks: list[MembershipAttack] = []
    references: dict[str, list[str]] = {}
    """By hospital, the hospitals whose own models were references for its images."""
    not_attacked: dict[str, str] = {}
    """Hospitals whose images were not attacked, with the reason."""


def _current_kind(kind: object) -> object:
    """Maps "without", as runs written before 2026-11-28 call leave-one-out, to its current name."""
    return "leave-one-out" if kind == "without" else kind


ModelKind = Annotated[Literal["federated", "pooled", "local", "leave-one-out"], BeforeValidator(_current_kind)]
"""Trained by the federation, on all images in one place, at one hospital, or by the federation without one hospital."""


class BaselineModel(Record):
    """One model of the comparison, tested at every hospital."""

    kind: ModelKind
    trained_at: list[str]
    """Hospitals whose images the model was trained on."""
    best_round: int
    test: Metrics
    """Figures on all hospitals' test images together."""
    hospitals: dict[str, Metrics]
    """Figures on each hospital's test images, whether the model was trained there or not."""
    stored: StoredModel | None = None
    """Its files; None if the run did not store its weights."""


Difference = Annotated[float, Field(ge=-1, le=1)]


class PairedDifference(Record):
    """The accuracy of the federated model minus that of another model on the same images."""

    kind: ModelKind
    """Kind of the other model."""
    trained_at: list[str]
    hospital: str
    """Hospital whose test images are compared, or "all hospitals"."""
    difference: Difference
    low: Difference
    high: Difference
    """Bounds, with `low`, of the 95 % interval of a paired bootstrap over groups."""
    mcnemar_p: Fraction


class BaselineRecord(Record):
    """baselines.json: the federated model first, then those it is compared with, all trained with the same budget."""

    models: list[BaselineModel]
    differences: list[PairedDifference]


class LabelMap(Record):
    """label_map.json: index of each class in the model's output."""

    glioma: Literal[0] = 0
    meningioma: Literal[1] = 1
    pituitary: Literal[2] = 2
    notumor: Literal[3] = 3


class Introduction(Record):
    """Names and counts with which a hospital registers for a networked federation."""

    hospital: str
    version: str
    """Version of medisync with a digest of its code."""
    labels: list[str]
    """Classes in the order of the model's outputs."""
    synthetic: bool
    dataset_id: str
    specialty: str = ""
    source: str = ""
    licence: str = ""
    stats: DatasetStats
    audit: HospitalAudit


class RunStart(Record):
    """start.json: what is needed to resume a run unchanged; written first, removed once the run is complete."""

    started_at: str
    log: str
    """Name of the folder under `logs/`."""
    configuration: dict[str, object]


Transport = Literal["in one process", "over the network"]
"""Setting in which the hospitals trained."""


class RunRecord(Record):
    """run.json: configuration and files of a completed run; written last, so that a run without it is incomplete."""

    status: Literal["completed"]
    run: str
    synthetic: bool
    started_at: str
    finished_at: str
    log: str
    """Name of the folder under `logs/`."""
    configuration: dict[str, object]
    software: dict[str, str]
    transport: Transport = "in one process"
    files: dict[str, str]
    """SHA-256 of every file of the run, by its name."""
    format: Annotated[int, Field(ge=1)] = FORMAT

    @field_validator("files")
    @classmethod
    def _are_in_the_run(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if "/" in name or name in ("", ".", ".."):
                raise ValueError(f"{name!r} is not the name of a file in the run")
        return files

    @field_validator("format")
    @classmethod
    def _is_known(cls, number: int) -> int:
        if number > FORMAT:
            raise ValueError(f"the run has format {number}, this program reads up to {FORMAT}; use a newer one")
        return number


class ImageCheck(Record):
    """One check of an input image, in words for the user."""

    name: str
    passed: bool
    detail: str


class Prediction(Record):
    """The prediction for one image. Research use only, not a diagnosis."""

    label: Label
    confidence: Fraction
    probabilities: dict[Label, Fraction]
    plausible: list[Label]
    """The 90 % prediction set, most probable class first; nine of ten such sets contain the true class."""
    distance: float
    """Distance from the training scans; about 1 for a training scan."""
    unlike_training: bool
    verdict: Verdict | None = None
    """None in runs before there were verdicts."""
    reasons: list[VerdictReason] = []
    """Why the verdict is less than an answer."""
    checks: list[ImageCheck]
    notes: list[str]
    slices: Count = 1
    """Number of slices in the file, of which one was predicted."""
    slice_number: Count = 1
    """Which one, from 1."""
