"""The folders of a new federation, with keys and settings: one for the server, one for each hospital."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medisync.config import Hospital
from medisync.network import credentials
from medisync.network.settings import split_address, to_toml


@dataclass(frozen=True)
class FederationFiles:
    """The settings files of a new federation: the server's, and the hospitals' by name."""

    server: Path
    hospitals: Mapping[str, Path]


def make(folder: Path, address: str, hospitals: Sequence[Hospital], dataset: Path = Path("dataset")) -> FederationFiles:
    """Makes a certificate authority in `folder`, and a folder to hand over for the server and for each hospital.

    `address` is where hospitals find the server; `dataset` is written into the hospitals' settings, for their
    administrators to correct. Raises ConfigError if a key already exists.
    """
    host, port = split_address(address)
    authority = credentials.make_authority(folder)
    server, folders = folder / "server", {each.name: folder / "hospitals" / slug(each.name) for each in hospitals}
    credentials.make_server_certificate(server, [host], authority)
    shutil.copyfile(folder / "ca.crt", server / "ca.crt")
    for own in folders.values():
        credentials.make_hospital_keys(own / "hospital.key", server / "hospitals" / f"{own.name}.pub")
        shutil.copyfile(folder / "ca.crt", own / "ca.crt")
    listen = address if host in ("127.0.0.1", "localhost") else f"0.0.0.0:{port}"
    members = [_member(each, folders[each.name].name) for each in hospitals]
    (server / "server.toml").write_text(to_toml({"listen": listen, "hospitals": members}), encoding="utf-8")
    for each in hospitals:
        settings = to_toml(_hospital(each, address, dataset))
        (folders[each.name] / "hospital.toml").write_text(settings, encoding="utf-8")
    return FederationFiles(server / "server.toml", {name: own / "hospital.toml" for name, own in folders.items()})


def slug(name: str) -> str:
    """Returns a folder name for a hospital: `Tata Memorial Mumbai` becomes `tata-memorial-mumbai`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "hospital"


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
