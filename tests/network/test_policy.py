"""policy.toml: strict defaults, the file that init writes, and mistakes that are refused by field."""

import tomllib
from datetime import time
from pathlib import Path

import pytest

from medisync import notebook
from medisync.cli.main import main
from medisync.config import TrainingConfig
from medisync.errors import ConfigError
from medisync.network import loopback, services, settings, setup
from medisync.network.policy import TEMPLATE, Policy, beside, is_within

HOSPITALS = notebook.configuration().hospitals


def test_init_gives_each_hospital_the_strict_defaults_with_comments(tmp_path: Path) -> None:
    assert Policy.model_validate(tomllib.loads(TEMPLATE)) == Policy()
    made = setup.make(tmp_path / "federation", "127.0.0.1:9443", HOSPITALS)
    for file in made.hospitals.values():
        assert beside(file).read_text(encoding="utf-8") == TEMPLATE
        assert settings.read_policy(file) == Policy()
    assert not any((tmp_path / "federation" / "server").rglob("policy.toml"))


def test_without_a_file_the_strict_defaults_apply(tmp_path: Path) -> None:
    policy = settings.read_policy(tmp_path / "hospital.toml")
    assert policy.participation.approval
    assert policy.release.smallest_count == 10
    assert not policy.release.batchnorm_statistics


def test_the_published_recipe_is_within_the_defaults() -> None:
    recipe, published = Policy().recipe, TrainingConfig()
    assert published.local_epochs <= recipe.most_local_epochs
    assert recipe.smallest_image_size <= published.image_size <= recipe.largest_image_size


def test_the_policy_of_a_trial_is_one() -> None:
    trial = Policy.model_validate(tomllib.loads(settings.to_toml(loopback.TRIAL)))
    assert not trial.participation.approval
    assert trial.release.smallest_count == 1


WRONG = {
    "[limits]\nrounds_per_week = -1": "limits.rounds_per_week: Input should be greater than or equal to 1",
    "[limits]\nrounds_per_week = 1.5": "limits.rounds_per_week: ",
    "[limits]\nrounds_per_weak = 5": "limits.rounds_per_weak: Extra inputs are not permitted",
    "[limits]\nhours = []": "limits.hours: ",
    "[limits]\nhours = ['7pm-7am']": "limits.hours.0: expected a span of the day such as 19:00-07:00, got '7pm-7am'",
    "[limits]\nhours = ['19:00-25:00']": "limits.hours.0: expected a span of the day",
    "[limit]\nrounds_per_week = 5": "limit: Extra inputs are not permitted",
    "[recipe]\nallowed = ['abc']": "recipe.allowed.0: ",
    "[recipe]\nstrategies = ['fedavge']": "recipe.strategies.0: ",
    "[recipe]\nlargest_image_size = 100": "recipe.largest_image_size: ",
    "[recipe]\nsmallest_image_size = 512": "recipe: smallest_image_size 512 is above largest_image_size 256",
    "[participation]\napproval = 'no'": "participation.approval: ",
    "[participation]\nfewest_images = -5": "participation.fewest_images: ",
    "[release]\nsmallest_count = 0": "release.smallest_count: ",
    "[epsilon]\nper_run = -1.0": "epsilon.per_run: ",
    "[epsilon]\nin_total = nan": "epsilon.in_total: ",
    "approval = false": "approval: Extra inputs are not permitted",
    "[limits": "is not valid TOML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_refused_by_file_and_field(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        settings.read_policy(tmp_path / "hospital.toml")
    assert str(error.value).startswith(f"policy.toml: {WRONG[text]}")


def test_nothing_starts_with_a_wrong_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = setup.make(tmp_path, f"127.0.0.1:{services.free_port()}", HOSPITALS, tmp_path)
    file = made.hospitals[HOSPITALS[0].name]
    beside(file).write_text("[limits]\nrounds = 5", encoding="utf-8")
    assert main(["federation", "hospital", str(file)]) == 2
    assert capsys.readouterr().err == "medisync: policy.toml: limits.rounds: Extra inputs are not permitted\n"
    assert not (file.parent / "state").exists()


@pytest.mark.parametrize(
    ("hours", "moment", "within"),
    [
        ("00:00-24:00", time(0), True),
        ("00:00-24:00", time(23, 59, 59), True),
        ("08:00-18:00", time(8), True),
        ("08:00-18:00", time(18), False),
        ("08:00-18:00", time(7, 59), False),
        ("19:00-07:00", time(23), True),
        ("19:00-07:00", time(6, 59), True),
        ("19:00-07:00", time(7), False),
        ("19:00-07:00", time(12), False),
        ("19:00-24:00", time(0), False),
    ],
)
def test_hours_may_pass_midnight(hours: str, moment: time, within: bool) -> None:
    assert is_within(moment, hours) is within
