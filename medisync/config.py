"""Frozen, validated configuration, read from the notebook's capital-letter names."""

import difflib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medisync.errors import ConfigError
from medisync.schemas import Label, Location

Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
ImageSize = Annotated[int, Field(ge=32, le=1024, multiple_of=32, strict=True)]


class Section(BaseModel):
    """A part of the configuration that one stage takes; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Hospital(Section):
    """A federation member: one entry of HOSPITAL_CONFIGS joined with its dataset."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    dataset_id: str
    specialty: str
    location: Location
    path: str
    """Relative to the dataset folder of the workspace."""
    class_map: dict[str, Label]
    """Normalised folder name -> label."""
    source: str = ""
    licence: str = ""
    """Where the images come from and under which terms: for the model card."""

    @field_validator("path")
    @classmethod
    def _stays_inside_dataset(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
            raise ValueError("must be a folder inside the workspace's dataset folder")
        return path

    @field_validator("class_map")
    @classmethod
    def _normalise_folders(cls, class_map: dict[str, Label]) -> dict[str, Label]:
        return normalise_class_map(class_map)


class SplitConfig(Section):
    val_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    cross_hospital_duplicates: Literal["one-owner", "keep", "report"] = "one-owner"
    seed: Seed = 0

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.val_ratio + self.test_ratio > 0.8:
            total = self.val_ratio + self.test_ratio
            raise ValueError(f"val_ratio + test_ratio must leave at least 0.2 for training, got {total:g}")
        return self


Normalisation = Literal["group", "averaged", "local"]
"""GroupNorm with weight standardisation; or BatchNorm whose running statistics are averaged like weights, or stay each
hospital's own (SiloBN)."""


LearningRateSchedule = Literal["constant", "cosine", "linear"]


class TrainingConfig(Section):
    """How one hospital trains in one round."""

    image_size: ImageSize = 224
    image_size_schedule: Literal["constant", "progressive"] = "constant"
    """Progressive rounds begin with small images and end with whole ones: most of the passes for a fraction of the time."""
    batch_size: PositiveInt = 32
    steps_per_epoch: Annotated[int, Field(ge=0, strict=True)] = 0
    """Batches that a pass is cut into, the same at every hospital, so that each takes as many steps whatever it has; 0 to cut
    it by `batch_size`."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    learning_rate_schedule: LearningRateSchedule = "cosine"
    local_epochs: Annotated[float, Field(gt=0, le=100, strict=True)] = 1
    """Passes over a hospital's images in a round; 0.25 aggregates after each quarter of a pass."""
    adam_moments: Literal["fresh", "shared"] = "fresh"
    """Fresh in every round at every hospital, or aggregated and handed on with the weights, at three times the traffic."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the learning rate by which every step shrinks kernels and matrices; 0 for plain Adam."""
    augment: bool = True
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Of the Beta distribution, both of its parameters, that gives the share of an image in a mixed one; 0 mixes none."""
    missing_class_prior: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Prior that the loss assumes for a class the hospital does not have; 1 turns the adjustment off."""
    normalisation: Normalisation = "averaged"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Seed = 0


Transport = Literal["float32", "float16"]
"""How precisely weights travel."""


class FederationConfig(Section):
    rounds: PositiveInt = 10
    patience: PositiveInt = 5
    """Rounds without a better validation accuracy after which the federation stops."""
    validate_every: PositiveInt = 1
    """Rounds from one validation to the next; the last is always validated. Patience ends, and a checkpoint is kept, only there."""
    min_hospitals: Annotated[int, Field(ge=2, strict=True)] = 2
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the hospitals that train in a round, drawn anew each round; never fewer than `min_hospitals`."""
    round_deadline: Annotated[float, Field(gt=0, le=7 * 86400)] = 3600
    """Seconds that a networked hospital may take for its part of a round; the round then goes on without it."""
    transport: Transport = "float32"
    """Halves take half of the bytes. They are rounded in one process too, so that it computes what a network does."""
    strategy: Literal["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedmedian", "trimmed-mean", "krum"] = (
        "fedavg"
    )
    proximal_mu: Annotated[float, Field(ge=0)] = 0.01
    """FedProx: weight of the squared distance from the global weights."""
    server_learning_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    """FedAvgM, FedAdam, FedYogi; 1 for FedAvgM, about 0.001 for the others."""
    server_learning_rate_schedule: LearningRateSchedule = "constant"
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    normalisation: Normalisation = "averaged"
    malicious_hospitals: Annotated[int, Field(ge=0, strict=True)] = 1
    """How many hospitals a trimmed mean or Krum withstands."""
    seed: Seed = 0


BaselineKind = Literal["local", "pooled", "leave-one-out"]


class BaselineConfig(Section):
    baselines: tuple[BaselineKind, ...] = ("local", "pooled")
    """What the federated model is compared with; each costs as much training as the images behind it."""


class CardConfig(Section):
    data_note: Annotated[str, Field(max_length=2000)] = ""
    """What a reader of the model card should know about these data."""


class RunConfig(Section):
    resume: Annotated[str, Field(pattern=r"^(run-\d{3,})?$")] = ""
    """An interrupted run to go on with, such as run-003; empty for a new one."""


class Configuration(Section):
    """Everything a run needs to know. Functions take their own section of it."""

    hospitals: Annotated[tuple[Hospital, ...], Field(min_length=2)]
    splits: SplitConfig
    training: TrainingConfig
    federation: FederationConfig
    baselines: BaselineConfig
    card: CardConfig
    run: RunConfig

    def to_record(self) -> dict[str, Any]:
        """What is kept with a run, as JSON has it: everything but how the run was gone on with."""
        return self.model_dump(mode="json", exclude={"run"})

    @model_validator(mode="after")
    def _has_one_dataset_per_hospital(self) -> Self:
        paths = [hospital.path for hospital in self.hospitals]
        if len(set(paths)) < len(paths):
            raise ValueError("hospitals: two hospitals share one dataset path; each needs its own")
        return self


def normalise_folder(name: str) -> str:
    """`Pituitary Tumor`, `pituitary_tumor` and `pituitary-tumor` are one folder name."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def normalise_class_map(class_map: Mapping[str, Label]) -> dict[str, Label]:
    """Returns the class map with normalised folder names.

    Raises ValueError if two spellings of one folder carry different labels, or the map is empty.
    """
    normalised: dict[str, Label] = {}
    for folder, label in class_map.items():
        if normalised.setdefault(normalise_folder(folder), label) != label:
            raise ValueError(f"folder {folder!r} is given two labels")
    if not normalised:
        raise ValueError("maps no folder; name at least one")
    return normalised


def from_notebook(names: Mapping[str, Any]) -> Configuration:
    """Builds the configuration from a notebook's globals: every name in capitals is a parameter.

    Raises ConfigError, naming the field, for an unknown name, a missing dictionary or a value that breaks a rule.
    """
    return from_dict({name: value for name, value in names.items() if name.isupper() and not name.startswith("_")})


def from_dict(parameters: Mapping[str, Any]) -> Configuration:
    """The same from a plain dictionary with HOSPITAL_CONFIGS, DATASETS and any parameters, by their capital names."""
    scalars = dict(parameters)
    try:
        hospitals = _join(scalars.pop("HOSPITAL_CONFIGS"), scalars.pop("DATASETS"))
    except KeyError as missing:
        raise ConfigError(f"{missing.args[0]} is not defined; the notebook's configuration cells define it") from None
    sections = _sections_by_parameter()
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for name, value in scalars.items():
        for section in sections.get(name.lower()) or _refuse_unknown(name, sections):
            values[section][name.lower()] = value
    return _validated({"hospitals": hospitals, **values})


SECTIONS: Mapping[str, type[Section]] = {
    "splits": SplitConfig,
    "training": TrainingConfig,
    "federation": FederationConfig,
    "baselines": BaselineConfig,
    "card": CardConfig,
    "run": RunConfig,
}


def _sections_by_parameter() -> dict[str, list[str]]:
    """A parameter may serve several sections: SEED does."""
    owners: dict[str, list[str]] = {}
    for section, model in SECTIONS.items():
        for field in model.model_fields:
            owners.setdefault(field, []).append(section)
    return owners


def _refuse_unknown(name: str, known: Mapping[str, object]) -> list[str]:
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {close[0].upper()}?" if close else f"; known: {', '.join(sorted(known)).upper()}"
    raise ConfigError(f"{name} is no parameter{hint}")


def _join(hospitals: Any, datasets: Any) -> list[dict[str, Any]]:
    """One dictionary per hospital, from the two that the notebook shows."""
    for name, value in (("HOSPITAL_CONFIGS", hospitals), ("DATASETS", datasets)):
        if not isinstance(value, Mapping) or not all(isinstance(entry, Mapping) for entry in value.values()):
            raise ConfigError(f"{name}: expected a dictionary of dictionaries, got {type(value).__name__}")
    joined = [_join_one(name, dict(entry), datasets) for name, entry in hospitals.items()]
    if unused := set(datasets) - {entry["dataset_id"] for entry in joined}:
        raise ConfigError(f"DATASETS: no hospital in HOSPITAL_CONFIGS uses {', '.join(sorted(unused))}")
    return joined


def _join_one(name: str, hospital: dict[str, Any], datasets: Mapping[str, Any]) -> dict[str, Any]:
    dataset_id = hospital.get("dataset_id")
    if dataset_id not in datasets:
        known = ", ".join(map(str, datasets))
        raise ConfigError(f"HOSPITAL_CONFIGS[{name!r}].dataset_id: {dataset_id!r} is not in DATASETS ({known})")
    dataset = dict(datasets[str(dataset_id)])
    if dataset.pop("hospital", name) != name:
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
    if len(parts) > 1 and parts[0] == "hospitals" and isinstance(parts[1], int):
        parts[:2] = [f"hospital {values['hospitals'][parts[1]]['name']!r}"]
    elif len(parts) > 1:
        parts = [str(part).upper() for part in parts[1:]]
    field = ".".join(map(str, parts))
    rule = message.removeprefix("Value error, ").replace("Input should be", "must be")
    shown = "" if isinstance(found, Mapping | list | tuple) else f", got {found!r}"
    return f"{field}: {rule}{shown}" if field else f"{rule}{shown}"
