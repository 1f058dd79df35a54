"""The folders of a new federation, with keys and settings: one for the server, one for each hospital."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medisync.config import Hospital
from medisync.network import credentials
from medisync.network.addresses import as_ip_address, join_address, require_connectable, split_address
from medisync.network.policy import FILE, TEMPLATE
from medisync.network.settings import to_toml
from medisync.workspace.atomic import new_folder
from medisync.workspace.folder_names import folder_names


@dataclass(frozen=True)
class FederationFiles:
    """The settings files of a new federation: the server's, and the hospitals' by name."""

    server: Path
    hospitals: Mapping[str, Path]


def make(folder: Path, address: str, hospitals: Sequence[Hospital], dataset: Path = Path("dataset")) -> FederationFiles:
    """Makes a certificate authority in `folder`, and a folder to hand over for the server and for each hospital.

    `address` is where hospitals find the server; `dataset` is written into the hospitals' settings, for their
    administrators to correct. `folder` appears whole or not at all. Raises ConfigError for an address that cannot be
    used or a `folder` that holds anything, ArtifactError if it cannot be written.
    """
    address = require_connectable(address)
    names = folder_names([each.name for each in hospitals])
    with new_folder(folder) as staging:
        _write(staging, address, {names[each.name]: each for each in hospitals}, dataset)
    files = {each.name: folder / "hospitals" / names[each.name] / "hospital.toml" for each in hospitals}
    return FederationFiles(folder / "server" / "server.toml", files)


def _write(folder: Path, address: str, hospitals: Mapping[str, Hospital], dataset: Path) -> None:
    """Writes everything to `folder`; the keys of `hospitals` are the names of their folders."""
    authority, server = credentials.make_authority(folder), folder / "server"
    credentials.make_server_certificate(server, [split_address(address)[0]], authority)
    shutil.copyfile(folder / "ca.crt", server / "ca.crt")
    for name, hospital in hospitals.items():
        own = folder / "hospitals" / name
        credentials.make_hospital_keys(own / "hospital.key", server / "hospitals" / f"{name}.pub")
        shutil.copyfile(folder / "ca.crt", own / "ca.crt")
        (own / "hospital.toml").write_text(to_toml(_hospital(hospital, address, dataset)), encoding="utf-8")
        (own / FILE).write_text(TEMPLATE, encoding="utf-8")
    members = [_member(hospital, name) for name, hospital in hospitals.items()]
    settings = to_toml({"listen": _listen_address(address), "hospitals": members})
    (server / "server.toml").write_text(settings, encoding="utf-8")


def _listen_address(address: str) -> str:
    """Returns where the server listens: on all interfaces, unless hospitals find it on its own machine only."""
    host, port = split_address(address)
    ip = as_ip_address(host)
    if host == "localhost" or (ip and ip.is_loopback):
        return address
    return join_address("::" if ip and ip.version == 6 else "0.0.0.0", port)  # noqa: S104


def _member(hospital: Hospital, name: str) -> dict[str, Any]:
    return {
        "name": hospital.name,
        "location": hospital.location.model_dump(),
        "public_key": f"hospitals/{name}.pub",
    }


def _hospital(hospital: Hospital, address: str, dataset: Path) -> dict[str, Any]:
    described = hospital.model_dump(include={"name", "dataset_id", "specialty", "source", "licence"})
    return {
        **described,
        "server": address,
        "dataset": dataset,
        "folder": hospital.path,
        "location": hospital.location.model_dump(),
        "class_map": hospital.class_map,
    }
