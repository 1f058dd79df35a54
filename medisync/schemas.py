"""One model per JSON artifact: the contract between the notebook and the dashboard.

Every artifact is validated on its way in and on its way out. Fractions are in [0, 1]; a metric that is undefined (no
image of a class, say) is `None`, never 0.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

Label = Literal["glioma", "meningioma", "pituitary", "notumor"]
LABELS: tuple[Label, ...] = get_args(Label)
"""The classes; the position of a label is its index in the model's output."""

FORMAT = 1
"""Of a run's artifacts: raised with a change that older programs would misread. New keys are no such change."""

PHANTOM_MARKER = "PHANTOM.json"
"""A file in the dataset folder: whoever shows its images must call them synthetic."""

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
    """Immutable; keys that a newer version added are ignored when read."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Location(Record):
    """Degrees, WGS 84."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]


ImageStatus = Literal["ok", "unresolved", "unreadable", "quarantined"]


class AuditedImage(Record):
    """One file that claims to be an image. `path` is relative to the dataset folder of the workspace."""

    hospital: str
    path: str
    label: Label | None
    """None where the folder is in no class map."""
    group: int | None
    """Images that must stay on one side of a split: copies of a slice, slices of a patient. None unless read."""
    slice: int | None = None
    """Images that show the same slice (copies, mirrored or re-encoded); finer than `group`."""
    status: ImageStatus
    reason: str = ""
    """Why the status is not "ok", in words."""
    patient: str | None = None
    sha256: str = ""
    width: Count = 0
    height: Count = 0
    mode: str = ""
    notes: list[str] = []
    """What was converted on the way to grey pixels, and what is odd about the file."""


class FolderAudit(Record):
    """One folder that holds images, and what its name means to this hospital."""

    name: str
    label: Label | None
    images: Count


class HospitalAudit(Record):
    """What was found in one hospital's dataset folder."""

    path: str
    folders: list[FolderAudit]
    class_distribution: dict[Label, Count]
    """Usable images per class ("ok" ones)."""
    total: Count
    """Usable images."""
    unresolved: Count
    unreadable: Count
    quarantined: Count
    skipped: dict[str, Count]
    """Files that are no images and entries that could not be read, by reason."""
    sizes: dict[str, Count]
    """The ten most frequent "WIDTHxHEIGHT", and "other"."""
    modes: dict[str, Count]
    patients: Count
    exact_copies: Count
    """Images whose bytes or pixels occur earlier in the same hospital."""
    near_copies: Count
    """Images that show a slice which occurs earlier in the same hospital, in other pixels."""
    notes: list[str]


class Overlap(Record):
    """How many images of `hospital` show a slice that `other` has too."""

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
    """One slice that occurs under several labels; all its images are quarantined."""

    slice: int
    paths: list[str]
    labels: list[Label]


class AuditRecord(Record):
    """audit.json: every image of every hospital, and what stands between them and a fair evaluation."""

    synthetic: bool
    hospitals: dict[str, HospitalAudit]
    overlaps: list[Overlap]
    """Ordered pairs of hospitals, zeros left out."""
    examples: list[CopyPair]
    """Some pairs across hospitals and inside them, to look at."""
    conflicts: list[LabelConflict]
    images: list[AuditedImage]


class SplitImage(Record):
    """`path` is relative to the dataset folder of the workspace."""

    path: str
    label: Label
    group: int
    sha256: str


class HospitalSplit(Record):
    train: list[SplitImage]
    val: list[SplitImage]
    test: list[SplitImage]


class SplitRecord(Record):
    """dataset_splits.json: which image serves for what. No group occurs in two splits, of whatever hospitals."""

    seed: int
    val_ratio: Fraction
    test_ratio: Fraction
    cross_hospital_duplicates: Literal["one-owner", "keep", "report"]
    hospitals: dict[str, HospitalSplit]
    notes: list[str]


class DatasetStats(Record):
    """One hospital in dataset_stats.json and in model_meta.json: the images that the run used."""

    total: Count
    class_distribution: dict[Label, Count]
    location: Location
    specialty: str = ""
    found: dict[Label, Count] = {}
    """Usable images before cross-hospital copies were given to one owner."""
    splits: dict[Split, dict[Label, Count]] = {}


class Scores(Record):
    """One round's figures: training ones are means over the local epochs, validation ones are the global model's."""

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
    """L2 distance between the returned weights and what all hospitals' became together; None before it was measured."""
    bytes_down: Count = 0
    """Of the arrays that the hospital received in this round, and sent."""
    bytes_up: Count = 0


class Refusal(Record):
    """An update that did not enter the average, or a hospital that did not answer."""

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
    """Of the global weights after this round: two runs that agree here agree to the bit."""
    hospitals: dict[str, HospitalScores]
    refused: list[Refusal] = []
    remarks: list[Refusal] = []
    """What is odd about updates that did enter: cut to the median length, or pointing against the others."""


class Progress(Record):
    """progress.json: where a run in progress stands; rewritten while it trains."""

    stage: Literal["audit", "training", "evaluation", "done"]
    round: Count = 0
    rounds: Count = 0
    hospital: str = ""
    images_per_second: float | None = None
    seconds_left: float | None = None
    updated_at: str = ""


class Interval(Record):
    """A 95 % bootstrap interval, resampled by group."""

    low: Fraction
    high: Fraction


class ClassMetrics(Record):
    precision: Fraction | None
    recall: Fraction | None
    """Sensitivity."""
    f1: Fraction | None
    support: Count
    specificity: Fraction | None = None
    auc: Fraction | None = None
    """Area under the one-against-rest ROC curve."""
    roc: list[tuple[Fraction, Fraction]] = []
    """Points of that curve, false positive rate and sensitivity, from (0, 0) to (1, 1)."""
    intervals: dict[str, Interval] = {}
    """For every figure above, by its name."""


class ReliabilityBin(Record):
    """Predictions whose confidence falls into one of 15 equal bins."""

    images: Count
    confidence: Fraction
    accuracy: Fraction


class Metrics(Record):
    """How a model did on a set of labelled images. Averages run over the classes that occur in the set."""

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
    """Share of images whose 90 % prediction set holds the true class."""
    set_size: Annotated[float, Field(ge=0)] | None = None
    """Mean number of classes in a prediction set."""
    unlike_training: Fraction | None = None
    """Share of images further from the training scans than 95 % of validation."""
    reliability: list[ReliabilityBin] = []
    intervals: dict[str, Interval] = {}
    """For accuracy, balanced_accuracy, macro_f1 and macro_auc."""


class Calibration(Record):
    """Fitted on validation images only."""

    temperature: Annotated[float, Field(gt=0)]
    distance_threshold: Annotated[float, Field(gt=0)]
    """Scans that are further from the training scans are unlike them; 95 % of validation is nearer."""
    conformal_threshold: Fraction = 1.0
    """Nonconformity up to which a class belongs to the prediction set; 90 % of validation has its true class in it."""
    ece_before: Fraction | None
    ece_after: Fraction | None
    brier_before: float | None = None
    brier_after: float | None = None


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
    """The same set in full: calibration, intervals."""
    hospitals: dict[str, Metrics]


class StoredModel(Record):
    """What it takes to predict with the two files of a model, and to know that they are the right ones."""

    image_size: int
    calibration: Calibration
    model_sha256: str
    distribution_sha256: str
    """Of the file that says where the features of the training scans lie."""
    statistics_sha256: str = ""
    """Of the file with hospitals' own BatchNorm statistics; empty where all hospitals have the same."""
    statistics_of: list[str] = []
    """The hospitals in that file."""


class ModelMeta(StoredModel):
    """model_meta.json."""

    trained_at: str
    num_classes: int
    num_epochs: int
    best_epoch: int
    device: Literal["cpu", "cuda"]
    datasets: dict[str, DatasetStats]
    metrics: ModelMetrics
    run: str
    synthetic: bool


def _current_kind(kind: object) -> object:
    """Runs written before 2026-11-28 call a federation without one hospital "without"."""
    return "leave-one-out" if kind == "without" else kind


ModelKind = Annotated[Literal["federated", "pooled", "local", "leave-one-out"], BeforeValidator(_current_kind)]
"""Trained by the federation, on all images in one place, at one hospital, by the federation without one hospital."""


class BaselineModel(Record):
    """One model of the comparison, tested at every hospital."""

    kind: ModelKind
    trained_at: list[str]
    """The hospitals whose images it was trained on."""
    best_round: int
    test: Metrics
    """All hospitals' test images together."""
    hospitals: dict[str, Metrics]
    """The same by hospital, whether it was trained there or not."""
    stored: StoredModel | None = None
    """None where the run did not keep its weights."""


Difference = Annotated[float, Field(ge=-1, le=1)]


class PairedDifference(Record):
    """Accuracy of the federated model minus that of another, on the same images."""

    kind: ModelKind
    """The other model's."""
    trained_at: list[str]
    hospital: str
    """Whose test images, or "all hospitals"."""
    difference: Difference
    low: Difference
    high: Difference
    """95 % interval of a paired bootstrap over groups."""
    mcnemar_p: Fraction


class BaselineRecord(Record):
    """baselines.json: the federated model first, then what it is compared with, all with the same budget."""

    models: list[BaselineModel]
    differences: list[PairedDifference]


class LabelMap(Record):
    """label_map.json."""

    glioma: Literal[0] = 0
    meningioma: Literal[1] = 1
    pituitary: Literal[2] = 2
    notumor: Literal[3] = 3


class Introduction(Record):
    """What a hospital says of itself before it takes part in a networked federation: names and counts."""

    hospital: str
    version: str
    """Of medisync, and of its code."""
    labels: list[str]
    """In the order of the model's outputs."""
    synthetic: bool
    dataset_id: str
    specialty: str = ""
    source: str = ""
    licence: str = ""
    stats: DatasetStats
    audit: HospitalAudit


class RunStart(Record):
    """start.json, written first and gone once the run is complete: what a resumed run needs to be the same run."""

    started_at: str
    log: str
    """Folder under `logs/`."""
    configuration: dict[str, object]


Transport = Literal["in one process", "over the network"]
"""Where the hospitals of a federation were."""


class RunRecord(Record):
    """run.json, written last: a run without it did not finish."""

    status: Literal["completed"]
    run: str
    synthetic: bool
    started_at: str
    finished_at: str
    log: str
    """Folder under `logs/`."""
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
                raise ValueError(f"{name!r} is no name of a file in the run")
        return files

    @field_validator("format")
    @classmethod
    def _is_known(cls, found: int) -> int:
        if found > FORMAT:
            raise ValueError(f"the run is of format {found}, this program reads up to {FORMAT}; use a newer one")
        return found


class ImageCheck(Record):
    """One check of an input image, in words a person reads."""

    name: str
    passed: bool
    detail: str


class Prediction(Record):
    """What the model says about one image. Research use only, not a diagnosis."""

    label: Label
    confidence: Fraction
    probabilities: dict[Label, Fraction]
    plausible: list[Label]
    """The 90 % prediction set, most probable first: the true class is in nine of ten such sets."""
    distance: float
    """From the training scans; 1 is usual for one of them."""
    unlike_training: bool
    checks: list[ImageCheck]
    notes: list[str]
    slices: Count = 1
    """How many the file has; this is about one of them."""
