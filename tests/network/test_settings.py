"""Settings, keys and certificates of a networked federation, and who is let in."""

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from medisync import notebook
from medisync.cli.main import main
from medisync.errors import ConfigError, DataError, UpdateError
from medisync.federation import registration
from medisync.network import coordinator, credentials, node, services, settings, setup
from medisync.network.settings import HospitalSettings, ServerSettings
from medisync.schemas import LABELS, DatasetStats, HospitalAudit, Introduction, Location
from medisync.version import software

HOSPITALS = notebook.configuration().hospitals


def test_init_gives_each_side_its_settings_and_private_keys_to_nobody_else(tmp_path: Path) -> None:
    made = setup.make(tmp_path / "federation", "federation.example.org:9443", HOSPITALS, tmp_path)
    server = settings.read(ServerSettings, made.server)
    assert server.listen == "0.0.0.0:9443"
    assert [member.name for member in server.hospitals] == [each.name for each in HOSPITALS]
    assert all(member.public_key.read_bytes().startswith(b"ecdsa-sha2-nistp384") for member in server.hospitals)
    keys = sorted((tmp_path / "federation").rglob("*.key"))
    assert len(keys) == 2 + len(HOSPITALS)
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    for name, file in made.hospitals.items():
        hospital = settings.read(HospitalSettings, file)
        assert (hospital.name, hospital.server) == (name, "federation.example.org:9443")
        assert hospital.as_hospital().class_map == next(each for each in HOSPITALS if each.name == name).class_map
        others = [other for other in made.hospitals if other != name]
        assert not any(other in file.read_text(encoding="utf-8") for other in others)


def test_external_datasets_are_not_evaluated_over_a_network_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = setup.make(tmp_path / "federation", "127.0.0.1:9443", HOSPITALS, tmp_path)
    server = settings.read(ServerSettings, made.server)
    external = {"role": "external", "path": "elsewhere", "class_map": {"glioma": "glioma"}}
    parameters = {"DATASETS": {**notebook.literals()["DATASETS"], "elsewhere": external}}
    for given, said in (({}, False), (parameters, True)):
        found = coordinator.configure(server, {"parameters": json.dumps(given), "resume": ""})
        assert found.external == ()
        assert [each.name for each in found.hospitals] == [each.name for each in HOSPITALS]
        assert ("use `medisync evaluate`" in caplog.text) is said


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    setup.make(tmp_path, "127.0.0.1:9443", HOSPITALS)
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(ConfigError, match="already exists and is not replaced"):
        setup.make(tmp_path, "127.0.0.1:9443", HOSPITALS)
    assert (tmp_path / "ca.key").read_bytes() == before


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    credentials.make_hospital_keys(tmp_path / "hospital.key", tmp_path / "hospital.pub")
    credentials.require_private(tmp_path / "hospital.key")
    (tmp_path / "hospital.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"others may read this private key \(mode 644\); run chmod 600 hospital.key"):
        credentials.require_private(tmp_path / "hospital.key")


def test_an_expired_certificate_is_refused_with_its_dates(tmp_path: Path) -> None:
    credentials.make_authority(tmp_path, now=datetime.now(UTC) - timedelta(days=731))
    with pytest.raises(ConfigError, match=r"is valid only from .*, not today"):
        credentials.require_valid(tmp_path / "ca.crt")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("server = 'nowhere'", "hospital.toml: server:"),
        ("colour = 'blue'", "hospital.toml: colour: Extra inputs are not permitted"),
        ("class_map = { tumour = 'cancer' }", "hospital.toml: class_map.tumour:"),
        (
            "class_map = { Glioma = 'glioma', glioma = 'meningioma' }",
            "hospital.toml: class_map: folder 'glioma' is given two",
        ),
        ("name = ", "hospital.toml: is not valid TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_file_and_field(tmp_path: Path, line: str, said: str) -> None:
    right = {
        "name": "name = 'North'",
        "server": "server = '127.0.0.1:1'",
        "dataset": "dataset = 'scans'",
        "location": "location = { lat = 1.0, lon = 2.0 }",
        "class_map": "class_map = { glioma = 'glioma' }",
    }
    file = tmp_path / "hospital.toml"
    file.write_text("\n".join(right.values()))
    assert settings.read(HospitalSettings, file).dataset == tmp_path / "scans"
    file.write_text("\n".join({**right, line.split(" ")[0]: line}.values()))
    with pytest.raises(ConfigError) as error:
        settings.read(HospitalSettings, file)
    assert str(error.value).startswith(said)


def test_a_missing_key_is_reported_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = setup.make(tmp_path, f"127.0.0.1:{services.free_port()}", HOSPITALS, tmp_path)
    file = made.hospitals[HOSPITALS[0].name]
    (file.parent / "hospital.key").unlink()
    assert main(["federation", "hospital", str(file)]) == 2
    assert "this private key does not exist" in capsys.readouterr().err


def test_a_missing_dataset_is_reported_in_one_sentence(tmp_path: Path) -> None:
    made = setup.make(tmp_path, f"127.0.0.1:{services.free_port()}", HOSPITALS, tmp_path / "nowhere")
    hospital = settings.read(HospitalSettings, made.hospitals[HOSPITALS[0].name])
    with pytest.raises(
        DataError, match=r"nowhere: this dataset folder does not exist; correct `dataset` in hospital.toml"
    ):
        node.prepare(hospital)


def test_settings_are_written_as_toml_that_reads_back_the_same() -> None:
    values = {
        "name": 'Quote " and \\ backslash',
        "dataset": Path("scans/brain"),
        "location": {"lat": 1.5, "lon": -2.0},
        "class_map": {"no tumor": "notumor", "Ödem.ü": "glioma"},
        "hospitals": [{"name": "North", "at": {"lat": 1.0}}, {"name": "South", "at": {"lat": 2.0}}],
        "superlink": {"default": "here", "here": {"certificate": Path("ca.crt")}},
    }
    read = tomllib.loads(settings.to_toml(values))
    assert read == {
        **values,
        "dataset": "scans/brain",
        "superlink": {"default": "here", "here": {"certificate": "ca.crt"}},
    }


def introduction(**changes: Any) -> Introduction:
    counts = dict.fromkeys(LABELS, 5)
    stats = DatasetStats(total=20, class_distribution=counts, location=Location(lat=0, lon=0))
    names = ("folders", "notes")
    numbers = ("total", "unresolved", "unreadable", "quarantined", "patients", "exact_copies", "near_copies")
    tables = ("skipped", "sizes", "modes")
    found = HospitalAudit(
        path="",
        class_distribution=counts,
        **dict.fromkeys(numbers, 0),  # type: ignore[arg-type]
        **{name: [] for name in names},  # type: ignore[arg-type]
        **{name: {} for name in tables},  # type: ignore[arg-type]
    )
    right = {"hospital": "North", "version": software(), "labels": list(LABELS)}
    return Introduction(**{**right, "synthetic": True, "dataset_id": "d", "stats": stats, "audit": found, **changes})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hospital": "South"}, "its key is registered for North, but it calls itself South"),
        ({"version": "0.0.9 (code 000000000000)"}, "it runs medisync 0.0.9 (code 000000000000), this server"),
        ({"labels": ["glioma", "notumor", "meningioma", "pituitary"]}, "its classes are glioma, notumor"),
    ],
)
def test_a_hospital_with_other_code_or_classes_is_not_let_in(change: dict[str, Any], said: str) -> None:
    registration.require_fit(introduction(), "North")
    with pytest.raises(UpdateError) as error:
        registration.require_fit(introduction(**change), "North")
    assert str(error.value).startswith(said)
