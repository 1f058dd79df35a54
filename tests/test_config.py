"""The configuration: its defaults, and invalid values refused with the name of the parameter."""

import copy
from typing import Any

import pytest

from medisync import config, notebook
from medisync.errors import ConfigError

PARAMETERS: dict[str, Any] = {
    "HOSPITAL_CONFIGS": {
        "North": {"dataset_id": "n", "specialty": "tumours", "location": {"lat": 10.0, "lon": 20.0}},
        "South": {"dataset_id": "s", "specialty": "tumours", "location": {"lat": -10.0, "lon": 20.0}},
    },
    "DATASETS": {
        "n": {"hospital": "North", "path": "north", "class_map": {"Pituitary_Tumor": "pituitary"}},
        "s": {"hospital": "South", "path": "south", "class_map": {"no-tumor": "notumor"}},
    },
}


def parameters(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PARAMETERS), **changes}


def test_every_parameter_reaches_the_sections_that_use_it() -> None:
    built = config.from_dict(parameters(ROUNDS=3, BATCH_SIZE=8, STEPS_PER_EPOCH=0, VAL_RATIO=0.2, SEED=7))
    assert (built.federation.rounds, built.training.batch_size, built.splits.val_ratio) == (3, 8, 0.2)
    assert (built.federation.seed, built.training.seed, built.splits.seed) == (7, 7, 7)


def test_hospital_is_joined_with_its_dataset_and_folders_are_normalised() -> None:
    north = config.from_dict(parameters()).hospitals[0]
    assert (north.name, north.path, north.class_map) == ("North", "north", {"pituitary tumor": "pituitary"})


def test_only_capital_names_of_a_notebook_are_parameters() -> None:
    built = config.from_notebook({**parameters(ROUNDS=2), "In": [], "_i1": "", "workspace": object(), "_OH": {}})
    assert built.federation.rounds == 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LEARNING_RATE", -1, "LEARNING_RATE: must be greater than 0, got -1"),
        ("LEARNING_RATE", float("nan"), "LEARNING_RATE: must be a finite number, got nan"),
        ("ROUNDS", 0, "ROUNDS: must be greater than or equal to 1, got 0"),
        ("BATCH_SIZE", -1, "BATCH_SIZE: must be greater than or equal to 0, got -1"),
        ("BATCH_SIZE", 16, "BATCH_SIZE 16 and STEPS_PER_EPOCH 80 contradict each other; set one of them to 0"),
        ("STEPS_PER_EPOCH", 0, "BATCH_SIZE and STEPS_PER_EPOCH are both 0; set one of them"),
        ("SEED", "x", "SEED: must be a valid integer, got 'x'"),
        ("IMAGE_SIZE", 7, "IMAGE_SIZE: must be a multiple of 32, got 7"),
        ("DEVICE", "tpu", "DEVICE: must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ("ROUND", 3, "ROUND is not a parameter; did you mean ROUNDS?"),
        ("rounds", 3, "rounds is not a parameter; did you mean ROUNDS?"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.from_dict(parameters(**{name: value}))
    assert str(caught.value) == message


def test_too_few_hospitals_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"hospitals: .* at least 2 items"):
        config.from_dict({"HOSPITAL_CONFIGS": {}, "DATASETS": {}})


def test_the_notebook_shows_every_parameter_with_its_default() -> None:
    shown = notebook.literals()
    hospitals = {name: shown.pop(name) for name in ("HOSPITAL_CONFIGS", "DATASETS")}
    fields = {field for section in config.SECTIONS.values() for field in section.model_fields}
    assert {name.lower() for name in shown} == fields
    assert config.from_dict({**hospitals, **shown}) == config.from_dict(hospitals)


def test_every_parameter_of_the_demo_differs_from_its_default() -> None:
    plain = config.from_dict(parameters())
    for name, value in config.DEMO_PARAMETERS.items():
        sections = [getattr(plain, section) for section in config.SECTIONS]
        assert value not in [getattr(section, name.lower(), None) for section in sections], name
    assert config.from_dict(parameters(**config.DEMO_PARAMETERS)).training.batch_size == 16


def test_ratios_that_leave_too_little_for_training_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"val_ratio \+ test_ratio must leave at least 0.2 for training, got 1.2"):
        config.from_dict(parameters(VAL_RATIO=0.9, TEST_RATIO=0.3))


def test_a_class_map_with_an_unknown_label_names_the_hospital_and_the_allowed_labels() -> None:
    wrong = parameters()
    wrong["DATASETS"]["s"]["class_map"] = {"tumour": "gliom"}
    with pytest.raises(
        ConfigError, match=r"hospital 'South'\.class_map\.tumour: must be 'glioma', 'meningioma', .*'gliom'"
    ):
        config.from_dict(wrong)


def test_a_folder_with_two_labels_is_refused() -> None:
    wrong = parameters()
    wrong["DATASETS"]["s"]["class_map"] = {"no tumor": "notumor", "No_Tumor": "glioma"}
    with pytest.raises(ConfigError, match="folder 'No_Tumor' is given two labels"):
        config.from_dict(wrong)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b"])
def test_a_dataset_outside_the_workspace_is_refused(path: str) -> None:
    wrong = parameters()
    wrong["DATASETS"]["n"]["path"] = path
    with pytest.raises(ConfigError, match=r"hospital 'North'\.path: must be a folder inside the workspace"):
        config.from_dict(wrong)


def test_a_dataset_that_nobody_uses_and_one_that_is_missing_are_refused() -> None:
    unused, missing = parameters(), parameters()
    unused["DATASETS"]["z"] = {"path": "z", "class_map": {"glioma": "glioma"}}
    missing["HOSPITAL_CONFIGS"]["North"]["dataset_id"] = "q"
    with pytest.raises(ConfigError, match="no hospital in HOSPITAL_CONFIGS uses z"):
        config.from_dict(unused)
    with pytest.raises(ConfigError, match=r"HOSPITAL_CONFIGS\['North'\].dataset_id: 'q' is not in DATASETS"):
        config.from_dict(missing)


ELSEWHERE = {"role": "external", "path": "elsewhere", "class_map": {"Odd-Scans": "other", "glioma": "glioma"}}


def with_external(**changes: Any) -> dict[str, Any]:
    built = parameters()
    built["DATASETS"]["elsewhere"] = {**ELSEWHERE, **changes}
    return built


def test_an_external_dataset_is_no_hospitals() -> None:
    built = config.from_dict(with_external(source="a collection"))
    assert [hospital.name for hospital in built.hospitals] == ["North", "South"]
    (external,) = built.external
    assert (external.name, external.path, external.source) == ("elsewhere", "elsewhere", "a collection")
    assert external.class_map == {"odd scans": "other", "glioma": "glioma"}
    assert config.from_dict(parameters()).external == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "outside"}, "DATASETS['elsewhere'].role: must be 'hospital' or 'external', got 'outside'"),
        (
            {"role": "hospital"},
            "DATASETS: no hospital in HOSPITAL_CONFIGS uses elsewhere; scans that are only evaluated",
        ),
        ({"path": "../x"}, "DATASETS['elsewhere'].path: must be a folder inside the workspace's dataset folder"),
        (
            {"class_map": {"a": "metastasis"}},
            "DATASETS['elsewhere'].class_map.a: must be 'glioma', 'meningioma', 'pituitary', 'notumor' or 'other', got 'metastasis'",
        ),
        ({"class_map": {}}, "DATASETS['elsewhere'].class_map: must map at least one folder to a label"),
        ({"hospital": "North"}, "DATASETS['elsewhere'].hospital: "),
        (
            {"path": "north/more"},
            "DATASETS['elsewhere']: its path 'north/more' overlaps that of hospital 'North', 'north'",
        ),
        ({"path": "./north"}, "DATASETS['elsewhere']: its path './north' overlaps that of hospital 'North', 'north'"),
    ],
)
def test_a_wrong_external_dataset_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.from_dict(with_external(**changes))
    assert str(caught.value).startswith(message)


def test_no_hospital_uses_an_external_dataset() -> None:
    built = parameters()
    built["DATASETS"]["n"]["role"] = "external"
    with pytest.raises(ConfigError, match=r"DATASETS\['n'\].role: North uses it, so it cannot be 'external'"):
        config.from_dict(built)
    built["DATASETS"]["n"]["role"] = "hospital"
    assert config.from_dict(built) == config.from_dict(parameters())
