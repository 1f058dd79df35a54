"""A new federation's folder: addresses, names of hospitals' folders, and nothing half made after a failure."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from medisync import notebook
from medisync.cli.main import main
from medisync.errors import ArtifactError, ConfigError
from medisync.network import credentials, services, settings, setup
from medisync.network.addresses import join_address, require_connectable, split_address
from medisync.network.settings import HospitalSettings, ServerSettings
from medisync.network.superlink import superlink

HOSPITALS = notebook.configuration().hospitals
EXAMPLE = "such as federation.example.org:9443"


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("federation.example.org:9443", "federation.example.org", 9443),
        (" Federation.Example.org.:1 ", "federation.example.org", 1),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
        ("[2001:DB8:0::1]:9443", "2001:db8::1", 9443),
        ("münchen.example:9443", "xn--mnchen-3ya.example", 9443),
        ("straße.example:9443", "xn--strae-oqa.example", 9443),
        ("xn--mnchen-3ya.example:9443", "xn--mnchen-3ya.example", 9443),
        ("病院.example:9443", "xn--0rys90e.example", 9443),
    ],
)
def test_an_address_has_one_form(given: str, host: str, port: int) -> None:
    assert split_address(given) == (host, port)
    assert split_address(join_address(host, port)) == (host, port)


WRONG = {
    "https://federation.example.org:9443": "expected HOST:PORT without https://",
    "admin@federation.example.org:9443": "expected HOST:PORT without a user name",
    "federation.example.org:9443/v1": "expected HOST:PORT without a path",
    "federation.example.org:9443?x": "expected HOST:PORT without a query",
    "federation.example.org": "the port is missing",
    "federation.example.org:": "the port is missing",
    "[2001:db8::1]": "the port is missing",
    ":9443": "the host is missing",
    "": "the host is missing",
    "2001:db8::1": "with brackets around an IPv6 address",
    "2001:db8::1:9443": "with brackets around an IPv6 address",
    "[2001:db8::g]:9443": "is not an IPv6 address",
    "[fe80::1%eth0]:9443": "has a zone",
    "999.1.1.1:9443": "is not an IPv4 address",
    "federation.example.org:0": "the port must be a whole number from 1 to 65535, got '0'",
    "federation.example.org:65536": "the port must be a whole number from 1 to 65535, got '65536'",
    "federation.example.org:９４４３": "the port must be a whole number from 1 to 65535",
    "federation.example.org:https": "the port must be a whole number from 1 to 65535, got 'https'",
    "the server:9443": "'the server' is not a host name",
    "a_b.example:9443": "'a_b.example' is not a host name",
    f"{'x' * 64}.example:9443": "is not a host name (Label too long)",
    "0.0.0.0:9443": "0.0.0.0 means all interfaces of a machine, and no hospital can connect to it",
    "[::]:9443": ":: means all interfaces",
}


@pytest.mark.parametrize("given", WRONG)
def test_a_wrong_address_is_refused_before_a_byte_is_written(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["federation", "init", str(tmp_path / "made" / "federation"), f"--server={given}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("medisync: server address: ")
    assert WRONG[given] in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", WRONG)
def test_hospital_toml_refuses_what_init_refuses(tmp_path: Path, given: str) -> None:
    made = setup.make(tmp_path / "federation", "federation.example.org:9443", HOSPITALS)
    file = made.hospitals[HOSPITALS[0].name]
    file.write_text(file.read_text(encoding="utf-8").replace("federation.example.org:9443", given), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        settings.read(HospitalSettings, file)
    assert str(error.value).startswith("hospital.toml: server: ")
    assert WRONG[given] in str(error.value)


def test_a_server_may_listen_on_all_interfaces_but_not_at_a_wrong_port(tmp_path: Path) -> None:
    made = setup.make(tmp_path / "federation", "federation.example.org:9443", HOSPITALS)
    assert settings.read(ServerSettings, made.server).listen == "0.0.0.0:9443"
    made.server.write_text(made.server.read_text().replace("0.0.0.0:9443", "[::]:94430"))
    with pytest.raises(ConfigError, match=r"server.toml: listen: the port must be a whole number from 1 to 65535"):
        settings.read(ServerSettings, made.server)


@pytest.mark.parametrize(
    ("address", "listen", "host"),
    [
        ("[::1]:9443", "[::1]:9443", "::1"),
        ("[2001:db8::1]:9443", "[::]:9443", "2001:db8::1"),
        ("127.0.0.2:9443", "127.0.0.2:9443", "127.0.0.2"),
        ("münchen.example:9443", "0.0.0.0:9443", "xn--mnchen-3ya.example"),
    ],
)
def test_the_certificate_and_both_settings_agree_on_the_address(
    tmp_path: Path, address: str, listen: str, host: str
) -> None:
    made = setup.make(tmp_path / "federation", address, HOSPITALS)
    assert settings.read(ServerSettings, made.server).listen == listen
    hospital = settings.read(HospitalSettings, made.hospitals[HOSPITALS[0].name])
    assert hospital.server == require_connectable(address) == join_address(host, 9443)
    certificate = x509.load_pem_x509_certificate((made.server.parent / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert host in [str(each.value) for each in names]


def test_hospitals_without_latin_letters_reach_a_server_at_an_ipv6_address(tmp_path: Path) -> None:
    names = ("東京大学病院", "大阪大学病院", "مستشفى 🏥")
    hospitals = [each.model_copy(update={"name": name}) for each, name in zip(HOSPITALS, names, strict=True)]
    made = setup.make(tmp_path / "federation", f"[::1]:{services.free_port()}", hospitals)
    server = settings.read(ServerSettings, made.server)
    assert len({member.public_key.read_bytes() for member in server.hospitals}) == 3
    with superlink(server):  # registers all names and keys
        hospital = settings.read(HospitalSettings, made.hospitals[names[0]])
        services.require_reachable(hospital.server, hospital.authority)


def test_one_name_written_with_composed_and_separate_accents_is_one_hospital() -> None:
    literals = notebook.literals()
    for literal in ("HOSPITAL_CONFIGS", "DATASETS"):
        assert "AIIMS Delhi" in str(literals[literal])
    first, second, _ = literals["HOSPITAL_CONFIGS"]
    renamed = {
        "Charit\u00e9": literals["HOSPITAL_CONFIGS"][first],
        "Charite\u0301": literals["HOSPITAL_CONFIGS"][second],
    }
    datasets = {
        each: {key: value for key, value in literals["DATASETS"][each].items() if key != "hospital"}
        for each in ("dataset-1", "dataset-2")
    }
    with pytest.raises(ConfigError, match=r"two hospitals have the same name, 'Charit\u00e9'; give each its own"):
        notebook.configuration({"HOSPITAL_CONFIGS": renamed, "DATASETS": datasets})


def test_a_failure_in_the_middle_leaves_nothing_and_a_second_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "federation"

    def full(*_: object) -> None:
        assert any(tmp_path.rglob("server.key"))  # some of it has been written
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(credentials, "make_hospital_keys", full)
        with pytest.raises(ArtifactError, match=r"could not make federation/: No space left on device"):
            setup.make(folder, "127.0.0.1:9443", HOSPITALS)
    assert list(tmp_path.iterdir()) == []
    assert settings.read(ServerSettings, setup.make(folder, "127.0.0.1:9443", HOSPITALS).server).hospitals


INTERRUPTED = """
import os, signal, sys, threading
from medisync.cli.main import main
from medisync.network import credentials
def stop(*_):
    os.kill(os.getpid(), int(sys.argv[2]))
    threading.Event().wait()  # another thread may get the signal, and this one hear of it later
credentials.make_hospital_keys = stop
sys.exit(main(["federation", "init", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_a_kill_a_second_try_works_and_nothing_of_the_first_is_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "federation"
    arguments = [sys.executable, "-c", INTERRUPTED, str(folder), str(int(number))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == (-9 if number == signal.SIGKILL else 1)
    assert not folder.exists()
    if number != signal.SIGKILL:
        assert done.stderr == "medisync: stopped\n"
        assert list(tmp_path.iterdir()) == []
    assert main(["federation", "init", str(folder)]) == 0
    assert list(tmp_path.iterdir()) == [folder]


def test_an_empty_folder_is_used_and_one_that_holds_anything_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    setup.make(tmp_path / "empty", "127.0.0.1:9443", HOSPITALS)
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already exists and is not replaced; remove it, or choose another folder"):
        setup.make(tmp_path / "used", "127.0.0.1:9443", HOSPITALS)
    assert [file.name for file in (tmp_path / "used").iterdir()] == ["notes.txt"]
