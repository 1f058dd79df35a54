"""The settings of each side of a networked federation: hospital.toml at a hospital, server.toml at the server."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tomli_w
from pydantic import AfterValidator, Field, field_validator

from medisync.config import Hospital, Section, SplitConfig, normalise_class_map, normalise_name
from medisync.network.addresses import ListenAddress, ServerAddress
from medisync.network.policy import Policy, beside
from medisync.schemas import Label, Location
from medisync.workspace import toml_files

Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(normalise_name)]


class HospitalSettings(Section):
    """hospital.toml, which only its hospital reads. Relative paths are relative to the file."""

    name: Name
    server: ServerAddress
    dataset: Path
    """The dataset's folder."""
    folder: str = ""
    """Path inside `dataset` to the class folders; empty if they are at its top."""
    class_map: Annotated[dict[str, Label], Field(min_length=1)]
    """Normalised folder name -> label."""
    dataset_id: str = "dataset"
    specialty: str = ""
    source: str = ""
    licence: str = ""
    location: Location
    private_key: Path = Path("hospital.key")
    authority: Path = Path("ca.crt")
    """The certificate that the server's certificate must be signed by."""
    state: Path = Path("state")
    """Folder for decoded images, the audit and the split; none of it leaves the hospital."""
    split_file: Path | None = None
    """A split made beforehand; without one the hospital splits its own images by `split`."""
    split: SplitConfig = SplitConfig()

    @field_validator("class_map")
    @classmethod
    def _normalise_folders(cls, class_map: dict[str, Label]) -> dict[str, Label]:
        return normalise_class_map(class_map)

    @property
    def root(self) -> Path:
        """The folder that the paths of images are relative to."""
        return self.dataset if self.folder else self.dataset.parent

    @property
    def audit_log(self) -> Path:
        """The folder of the record of all messages."""
        return self.state / "audit-log"

    @property
    def ledger(self) -> Path:
        """The folder of what was approved and counted."""
        return self.state / "ledger"

    def as_hospital(self) -> Hospital:
        """Returns the hospital as the audit and the split take it."""
        shared = self.model_dump(
            include={"name", "dataset_id", "specialty", "location", "class_map", "source", "licence"}
        )
        return Hospital(path=self.folder or self.dataset.name, **shared)


class Member(Section):
    """A registered hospital, in server.toml."""

    name: Name
    location: Location
    public_key: Path
    """The hospital's public key, in OpenSSH's format."""


class ServerSettings(Section):
    """server.toml. Relative paths are relative to the file."""

    listen: ListenAddress = "127.0.0.1:9443"
    """The address that hospitals connect to; 0.0.0.0:9443 listens on all interfaces."""
    authority: Path = Path("ca.crt")
    certificate: Path = Path("server.crt")
    private_key: Path = Path("server.key")
    state: Path = Path("state")
    """Folder for Flower's configuration and the server's log."""
    gathering_seconds: Annotated[float, Field(ge=0)] = 120
    """Seconds that a run waits for all hospitals before it begins with those that are connected."""
    hospitals: Annotated[tuple[Member, ...], Field(min_length=2)]

    @field_validator("hospitals")
    @classmethod
    def _require_unique_names(cls, hospitals: tuple[Member, ...]) -> tuple[Member, ...]:
        names = [member.name for member in hospitals]
        if len(set(names)) < len(names):
            raise ValueError("two hospitals have the same name; give each its own")
        return hospitals


Settings = TypeVar("Settings", HospitalSettings, ServerSettings, Policy)


def read(kind: type[Settings], file: Path) -> Settings:
    """Returns the settings in a TOML file, with absolute paths.

    Raises ConfigError that names the file, the field and the rule.
    """
    settings = toml_files.read(kind, file, "make one with `medisync federation init`")
    return _absolute(settings, file.resolve().parent)


def read_policy(settings_file: Path) -> Policy:
    """Returns the policy beside a hospital.toml, or the strict defaults if there is none. Raises ConfigError as `read` does."""
    file = beside(settings_file)
    return read(Policy, file) if file.exists() else Policy()


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


def to_toml(values: Mapping[str, Any]) -> str:
    """Returns `values` as TOML, with paths as strings."""
    return tomli_w.dumps(_plain(values))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
