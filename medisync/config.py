"""Frozen, validated configuration, built from the notebook's parameters (its names in capitals).

The defaults of the fields are the published recipe. The notebook's parameter cells show the same values.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medisync.errors import ConfigError
from medisync.schemas import ExternalLabel, Label, Location

Meaning = TypeVar("Meaning")
"""What a class map says of a folder: a label, as a rule."""

Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
ImageSize = Annotated[int, Field(ge=32, le=1024, multiple_of=32, strict=True)]


def normalise_name(name: str) -> str:
    """Returns a hospital's name with composed letters, which look like separate letters and accents but differ from them."""
    return unicodedata.normalize("NFC", name)


def normalise_folder(name: str) -> str:
    """Returns the folder name in lower case with single spaces: `Pituitary_Tumor` and `pituitary-tumor` are the same.

    So are the Unicode forms of a name: macOS stores `é` as `e` and an accent.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(re.sub(r"[_\-\u2010-\u2015]", " ", folded).split())


def normalise_class_map(class_map: Mapping[str, Meaning]) -> dict[str, Meaning]:
    """Returns the class map by normalised folder names.

    Raises ValueError if it is empty or gives two labels to one folder.
    """
    normalised: dict[str, Meaning] = {}
    for folder, label in class_map.items():
        if normalised.setdefault(normalise_folder(folder), label) != label:
            raise ValueError(f"folder {folder!r} is given two labels")
    if not normalised:
        raise ValueError("must map at least one folder to a label")
    return normalised


def _inside_dataset(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise ValueError("must be a folder inside the workspace's dataset folder")
    return path


class Section(BaseModel):
    """The part of the configuration that one stage takes. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Hospital(Section):
    """A member of the federation: one entry of HOSPITAL_CONFIGS joined with its dataset."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    dataset_id: str
    specialty: str
    location: Location
    path: str
    """Dataset folder, relative to the workspace's `dataset/`."""
    class_map: dict[str, Label]
    """Label of each class folder, by the folder's normalised name."""
    source: str = ""
    """Origin of the images, for the model card."""
    licence: str = ""
    """Terms of use of the images, for the model card."""

    @field_validator("name")
    @classmethod
    def _has_composed_letters(cls, name: str) -> str:
        return normalise_name(name)

    _stays_inside_dataset = field_validator("path")(_inside_dataset)
    _has_normalised_folders = field_validator("class_map")(normalise_class_map)


class ExternalDataset(Section):
    """Scans from outside the hospitals, for evaluation alone: one entry of DATASETS whose role is "external"."""

    name: str
    """Its id in DATASETS."""
    path: str
    """Dataset folder, relative to the workspace's `dataset/`; neither inside a hospital's nor around it."""
    class_map: dict[str, ExternalLabel]
    """Label of each folder, by its normalised name; "other" for scans that are of none of the classes."""
    source: str = ""
    """Origin of the images, for the model card."""
    licence: str = ""
    """Terms of use of the images, for the model card."""

    _stays_inside_dataset = field_validator("path")(_inside_dataset)
    _has_normalised_folders = field_validator("class_map")(normalise_class_map)


class SplitConfig(Section):
    val_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of a hospital's images used for validation."""
    test_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of a hospital's images held out for the test."""
    cross_hospital_duplicates: Literal["one-owner", "keep", "report"] = "one-owner"
    """Treatment of groups of near-duplicates that several hospitals have: "one-owner" assigns each group to one hospital;
    "keep" and "report" leave the copies where they are and count them in the split's notes."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.val_ratio + self.test_ratio > 0.8:
            total = self.val_ratio + self.test_ratio
            raise ValueError(f"val_ratio + test_ratio must leave at least 0.2 for training, got {total:g}")
        return self


Normalisation = Literal["group", "averaged", "local"]
"""Normalisation layers: "group", GroupNorm (https://arxiv.org/abs/1803.08494) with weight standardisation
(https://arxiv.org/abs/1903.10520); "averaged", BatchNorm whose running statistics are averaged like weights; "local",
BatchNorm whose running statistics stay at each hospital (SiloBN, https://arxiv.org/abs/2008.07424)."""


LearningRateSchedule = Literal["constant", "cosine", "linear"]


class TrainingConfig(Section):
    """Local training at one hospital in one round."""

    image_size: ImageSize = 224
    """Side of the square input image, in pixels; a multiple of 32."""
    image_size_schedule: Literal["constant", "progressive"] = "progressive"
    """Image size over the rounds. "progressive" starts with small images and ends with full-size ones, at a fraction of the
    cost."""
    batch_size: Annotated[int, Field(ge=0, strict=True)] = 0
    """Images per batch; 0 if `steps_per_epoch` sets the number of batches instead."""
    steps_per_epoch: Annotated[int, Field(ge=0, strict=True)] = 80
    """Batches per epoch, the same at every hospital, so that all take equally many steps however many images they have; 0 if
    `batch_size` sets the size of a batch instead."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    """Adam's learning rate in the first round."""
    learning_rate_schedule: LearningRateSchedule = "linear"
    """Decay of the learning rate over the rounds."""
    local_epochs: Annotated[float, Field(gt=0, le=100, strict=True)] = 0.05
    """Epochs that a hospital trains in a round; with 0.25 the server aggregates after every quarter of an epoch."""
    adam_moments: Literal["fresh", "shared"] = "shared"
    """Adam's moment estimates: reset at every hospital in every round ("fresh"), or aggregated and sent out with the weights
    ("shared"), which triples the traffic."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Decoupled weight decay, as a fraction of the learning rate, on convolution kernels and matrices only (AdamW,
    https://arxiv.org/abs/1711.05101); 0 for plain Adam."""
    augment: bool = True
    """Random flips, shifts, rotations, scaling and changes of the intensity window."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.4
    """Both parameters of the Beta distribution from which mixup draws its mixing fraction (https://arxiv.org/abs/1710.09412);
    0 turns mixup off."""
    missing_class_prior: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Prior of a class without images at the hospital, in the loss and when the hospital's own scans are predicted
    (https://arxiv.org/abs/2007.07314); scans from elsewhere are predicted without it. 1 turns it off."""
    mirrored_halves: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Weight of the loss on halves of symmetric scans, completed by their mirror images: one half of most scans with a tumour
    is healthy tissue in the look of its collection; 0 turns it off."""
    drawn_lesions: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Weight of the loss on scans without a tumour into which a lesion of no particular class is drawn (after
    https://arxiv.org/abs/2011.04197); 0 turns it off."""
    normalisation: Normalisation = "group"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_one_rule_for_batches(self) -> Self:
        if self.batch_size and self.steps_per_epoch:
            raise ValueError(
                f"BATCH_SIZE {self.batch_size} and STEPS_PER_EPOCH {self.steps_per_epoch} contradict each other; "
                "set one of them to 0"
            )
        if not self.batch_size and not self.steps_per_epoch:
            raise ValueError("BATCH_SIZE and STEPS_PER_EPOCH are both 0; set one of them")
        return self


Transport = Literal["float32", "float16", "compact"]
"""Form of the weights in transit."""


Strategy = Literal["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedmedian", "trimmed-mean", "krum"]


class FederationConfig(Section):
    """Rounds, participation and aggregation."""

    rounds: PositiveInt = 600
    patience: PositiveInt = 600
    """Rounds without an improvement in validation accuracy after which the federation stops early."""
    validate_every: PositiveInt = 20
    """Rounds between validations; the last round is always validated. Only a validated round is selected, written as a
    checkpoint or counted against `patience`."""
    min_hospitals: Annotated[int, Field(ge=2, strict=True)] = 2
    """Usable client updates below which a round fails."""
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the hospitals that train in a round, drawn anew for each round; at least `min_hospitals` take part."""
    round_deadline: Annotated[float, Field(gt=0, le=7 * 86400)] = 3600
    """Seconds that a networked hospital has to answer in a round; the round then continues without it."""
    transport: Transport = "float32"
    """Form of the weights in transit: whole, in 32 or 16 bits, or "compact", their change since the last round in four. Weights
    are rounded within one process too, so that it computes what a networked run computes."""
    strategy: Strategy = "fedavg"
    """Aggregation: FedAvg (https://arxiv.org/abs/1602.05629), FedProx (https://arxiv.org/abs/1812.06127), FedAvgM
    (https://arxiv.org/abs/1909.06335), FedAdam and FedYogi (https://arxiv.org/abs/2003.00295), the coordinate-wise median or
    trimmed mean (https://arxiv.org/abs/1803.01498), or Krum (https://arxiv.org/abs/1703.02757)."""
    proximal_mu: Annotated[float, Field(ge=0)] = 0.01
    """FedProx's coefficient of the squared distance from the global weights."""
    server_learning_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Server learning rate of FedAvgM (1), FedAdam and FedYogi (about 0.001)."""
    server_learning_rate_schedule: LearningRateSchedule = "constant"
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Server momentum of FedAvgM, FedAdam and FedYogi."""
    normalisation: Normalisation = "group"
    malicious_hospitals: Annotated[int, Field(ge=0, strict=True)] = 1
    """Number of malicious hospitals that the trimmed mean or Krum tolerates."""
    seed: Seed = 0


BaselineKind = Literal["local", "pooled", "leave-one-out"]


class BaselineConfig(Section):
    baselines: tuple[BaselineKind, ...] = ("local", "pooled")
    """Models that the federated one is compared with; each costs as much training as the images it is trained on."""


class CardConfig(Section):
    data_note: Annotated[str, Field(max_length=2000)] = ""
    """Note on the data for readers of the model card."""


class RunConfig(Section):
    resume: Annotated[str, Field(pattern=r"^(run-\d{3,})?$")] = ""
    """Interrupted run to resume, such as run-003; empty for a new run."""


DEMO_PARAMETERS: Mapping[str, Any] = {
    "IMAGE_SIZE": 96,
    "IMAGE_SIZE_SCHEDULE": "constant",
    "LOCAL_EPOCHS": 1,
    "MISSING_CLASS_PRIOR": 0.3,
    "MIRRORED_HALVES": 0.0,
    "DRAWN_LESIONS": 0.0,
    "LEARNING_RATE": 1e-3,
    "LEARNING_RATE_SCHEDULE": "cosine",
    "BATCH_SIZE": 16,
    "STEPS_PER_EPOCH": 0,
    "WEIGHT_DECAY": 0.0,
    "MIXUP": 0.0,
    "NORMALISATION": "averaged",
    "ADAM_MOMENTS": "fresh",
    "VALIDATE_EVERY": 1,
    "ROUNDS": 20,
    "PATIENCE": 10,
}
"""Parameters of the demo that differ from the defaults: enough for the phantom hospitals, in minutes on two cores."""


class Configuration(Section):
    """Everything that defines a run. A function takes its own section of it."""

    hospitals: Annotated[tuple[Hospital, ...], Field(min_length=2)]
    external: tuple[ExternalDataset, ...] = ()
    splits: SplitConfig
    training: TrainingConfig
    federation: FederationConfig
    baselines: BaselineConfig
    card: CardConfig
    run: RunConfig

    def to_record(self) -> dict[str, Any]:
        """Returns the configuration as JSON types for the run's record: everything but which run was resumed."""
        return self.model_dump(mode="json", exclude={"run"})

    @model_validator(mode="after")
    def _has_one_dataset_per_hospital(self) -> Self:
        if repeated := [name for name, n in Counter(hospital.name for hospital in self.hospitals).items() if n > 1]:
            raise ValueError(f"hospitals: two hospitals have the same name, {repeated[0]!r}; give each its own")
        paths = [hospital.path for hospital in self.hospitals]
        if len(set(paths)) < len(paths):
            raise ValueError("hospitals: two hospitals share one dataset path; each needs its own")
        return self

    @model_validator(mode="after")
    def _has_external_datasets_apart(self) -> Self:
        hospitals = [(f"hospital {hospital.name!r}", hospital.path) for hospital in self.hospitals]
        external = [(f"DATASETS[{dataset.name!r}]", dataset.path) for dataset in self.external]
        for number, (name, path) in enumerate(external):
            for other, taken in [*hospitals, *external[:number]]:
                if _overlap(PurePosixPath(path), PurePosixPath(taken)):
                    raise ValueError(
                        f"{name}: its path {path!r} overlaps that of {other}, {taken!r}; each needs its own"
                    )
        return self


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def from_notebook(names: Mapping[str, Any]) -> Configuration:
    """Builds the configuration from a notebook's globals, in which every name in capitals is a parameter.

    Raises ConfigError, naming the parameter, for an unknown name, a missing dictionary or an invalid value.
    """
    return from_dict({name: value for name, value in names.items() if name.isupper() and not name.startswith("_")})


def from_dict(parameters: Mapping[str, Any]) -> Configuration:
    """Builds the configuration from HOSPITAL_CONFIGS, DATASETS and any parameters, by their names in capitals.

    Parameters that are left out have their defaults. Raises ConfigError as `from_notebook` does.
    """
    scalars = dict(parameters)
    try:
        hospitals, external = _join(scalars.pop("HOSPITAL_CONFIGS"), scalars.pop("DATASETS"))
    except KeyError as missing:
        raise ConfigError(f"{missing.args[0]} is not defined; the notebook's configuration cells define it") from None
    sections = _sections_by_parameter()
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for name, value in scalars.items():
        for section in sections.get(name) or _refuse_unknown(name, sections):
            values[section][name.lower()] = value
    return _validated({"hospitals": hospitals, "external": external, **values})


ROLES = ("hospital", "external")
"""Roles of an entry of DATASETS: scans of a hospital, or scans from elsewhere on which a run is only evaluated."""

SECTIONS: Mapping[str, type[Section]] = {
    "splits": SplitConfig,
    "training": TrainingConfig,
    "federation": FederationConfig,
    "baselines": BaselineConfig,
    "card": CardConfig,
    "run": RunConfig,
}


def _sections_by_parameter() -> dict[str, list[str]]:
    """Returns the sections that take each parameter. Several take SEED."""
    owners: dict[str, list[str]] = {}
    for section, model in SECTIONS.items():
        for field in model.model_fields:
            owners.setdefault(field.upper(), []).append(section)
    return owners


def _refuse_unknown(name: str, known: Mapping[str, object]) -> list[str]:
    close = difflib.get_close_matches(name.upper(), known, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; the parameters are {', '.join(sorted(known))}"
    raise ConfigError(f"{name} is not a parameter{hint}")


def _join(hospitals: Any, datasets: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns one dictionary per hospital, joined from the notebook's two, and one per external dataset."""
    for name, value in (("HOSPITAL_CONFIGS", hospitals), ("DATASETS", datasets)):
        if not isinstance(value, Mapping) or not all(isinstance(entry, Mapping) for entry in value.values()):
            raise ConfigError(f"{name}: expected a dictionary of dictionaries, got {type(value).__name__}")
    roles = {name: _role(name, entry) for name, entry in datasets.items()}
    joined = [_join_one(name, dict(entry), datasets) for name, entry in hospitals.items()]
    users = {entry["dataset_id"]: entry["name"] for entry in joined}
    for name, role in roles.items():
        if role == "external" and name in users:
            raise ConfigError(f"DATASETS[{name!r}].role: {users[name]} uses it, so it cannot be 'external'")
    if unused := sorted(str(name) for name, role in roles.items() if role == "hospital" and name not in users):
        evaluated = "; scans that are only evaluated have the role 'external'"
        raise ConfigError(f"DATASETS: no hospital in HOSPITAL_CONFIGS uses {', '.join(unused)}{evaluated}")
    return joined, [
        {"name": str(name), **{key: value for key, value in datasets[name].items() if key != "role"}}
        for name, role in roles.items()
        if role == "external"
    ]


def _role(name: object, dataset: Mapping[str, Any]) -> str:
    role = dataset.get("role", "hospital")
    if role not in ROLES:
        raise ConfigError(f"DATASETS[{name!r}].role: must be {' or '.join(map(repr, ROLES))}, got {role!r}")
    return str(role)


def _join_one(name: str, hospital: dict[str, Any], datasets: Mapping[str, Any]) -> dict[str, Any]:
    dataset_id = hospital.get("dataset_id")
    if dataset_id not in datasets:
        known = ", ".join(map(str, datasets))
        raise ConfigError(f"HOSPITAL_CONFIGS[{name!r}].dataset_id: {dataset_id!r} is not in DATASETS ({known})")
    dataset = dict(datasets[str(dataset_id)])
    dataset.pop("role", None)
    if normalise_name(str(dataset.pop("hospital", name))) != normalise_name(name):
        raise ConfigError(f"DATASETS[{dataset_id!r}].hospital: expected {name!r}, the hospital that uses it")
    return {"name": name, **hospital, **dataset}


def _validated(values: dict[str, Any]) -> Configuration:
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(_describe(first["loc"], first["msg"], first["input"], values)) from None


def _describe(location: tuple[int | str, ...], message: str, found: object, values: dict[str, Any]) -> str:
    parts = list(location)
    if len(parts) == 1 and parts[0] in SECTIONS:
        parts = []  # a rule on a whole section names the parameters itself
    elif len(parts) > 1 and parts[0] == "hospitals" and isinstance(parts[1], int):
        parts[:2] = [f"hospital {values['hospitals'][parts[1]]['name']!r}"]
    elif len(parts) > 1 and parts[0] == "external" and isinstance(parts[1], int):
        parts[:2] = [f"DATASETS[{values['external'][parts[1]]['name']!r}]"]
    elif len(parts) > 1:
        parts = [str(part).upper() for part in parts[1:]]
    field = ".".join(map(str, parts))
    rule = message.removeprefix("Value error, ").replace("Input should be", "must be")
    shown = "" if isinstance(found, Mapping | list | tuple) else f", got {found!r}"
    return f"{field}: {rule}{shown}" if field else f"{rule}{shown}"
