"""What each side of a networked federation is told: hospital.toml at a hospital, server.toml at the server."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, field_validator

from medisync.config import Hospital, Section, SplitConfig, normalise_folder
from medisync.errors import ConfigError
from medisync.schemas import Label, Location

Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}$")]
"""host:port"""
Name = Annotated[str, Field(min_length=1, max_length=80)]


def split_address(address: str) -> tuple[str, int]:
    """Host and port. Raises ConfigError for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"server address: expected HOST:PORT, such as federation.example.org:9443, got {address!r}")
    return host.strip("[]"), int(port)


class HospitalSettings(Section):
    """hospital.toml: one hospital, known to nobody else. Relative paths are relative to the file."""

    name: Name
    server: Address
    dataset: Path
    """The folder with the class folders."""
    folder: str = ""
    """Where they are inside of it, if not at its top."""
    class_map: Annotated[dict[str, Label], Field(min_length=1)]
    dataset_id: str = "dataset"
    specialty: str = ""
    source: str = ""
    licence: str = ""
    location: Location
    private_key: Path = Path("hospital.key")
    authority: Path = Path("ca.crt")
    """The certificate that vouches for the server."""
    state: Path = Path("state")
    """For decoded images, the audit and the split; none of it leaves."""
    split_file: Path | None = None
    """A split made beforehand; without one the hospital splits its own images, once, by `split`."""
    split: SplitConfig = SplitConfig()

    @field_validator("class_map")
    @classmethod
    def _normalise_folders(cls, class_map: dict[str, Label]) -> dict[str, Label]:
        return {normalise_folder(folder): label for folder, label in class_map.items()}

    @property
    def root(self) -> Path:
        """What the paths of images are relative to."""
        return self.dataset if self.folder else self.dataset.parent

    def as_hospital(self) -> Hospital:
        """As the audit and the split see it."""
        shared = self.model_dump(
            include={"name", "dataset_id", "specialty", "location", "class_map", "source", "licence"}
        )
        return Hospital(path=self.folder or self.dataset.name, **shared)


class Member(Section):
    """A registered hospital, as the server knows it."""

    name: Name
    location: Location
    public_key: Path
    """Of the node; in OpenSSH's format."""


class ServerSettings(Section):
    """server.toml. Relative paths are relative to the file."""

    listen: Address = "127.0.0.1:9443"
    """Where hospitals connect to; an address of all interfaces is 0.0.0.0:9443."""
    authority: Path = Path("ca.crt")
    certificate: Path = Path("server.crt")
    private_key: Path = Path("server.key")
    state: Path = Path("state")
    """Flower's database and configuration."""
    gathering_seconds: Annotated[float, Field(ge=0)] = 120
    """How long a run waits for all of its hospitals before it begins with those that are there."""
    hospitals: Annotated[tuple[Member, ...], Field(min_length=2)]

    @field_validator("hospitals")
    @classmethod
    def _have_names_of_their_own(cls, hospitals: tuple[Member, ...]) -> tuple[Member, ...]:
        names = [member.name for member in hospitals]
        if len(set(names)) < len(names):
            raise ValueError("two hospitals have the same name")
        return hospitals


Settings = TypeVar("Settings", HospitalSettings, ServerSettings)


def read(kind: type[Settings], file: Path) -> Settings:
    """The settings in a TOML file, its paths made absolute. Raises ConfigError naming the file, the field and the rule."""
    try:
        plain = tomllib.loads(file.read_text(encoding="utf-8"))
        settings = kind.model_validate(plain)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}); make one with `medisync federation init`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file.name}: is no TOML ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{file.name}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
    return _absolute(settings, file.resolve().parent)


def _absolute(settings: Settings, folder: Path) -> Settings:
    paths = {
        name: folder / value.expanduser()
        for name in type(settings).model_fields
        if isinstance(value := getattr(settings, name), Path)
    }
    if isinstance(settings, ServerSettings):
        members = [each.model_copy(update={"public_key": folder / each.public_key}) for each in settings.hospitals]
        return settings.model_copy(update={**paths, "hospitals": tuple(members)})
    return settings.model_copy(update=paths)


def to_toml(values: dict[str, Any]) -> str:
    """Plain values, then tables, then lists of tables; strings are quoted as JSON, which TOML reads alike."""
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if not isinstance(value, dict | list)]
    for key, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]", *(f"{_key(name)} = {_value(value)}" for name, value in table.items())]
        for each in table if isinstance(table, list) else []:
            lines += ["", f"[[{key}]]", *(f"{name} = {_value(value)}" for name, value in each.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(str(value) if isinstance(value, Path) else value)
