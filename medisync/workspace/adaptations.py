"""Adaptations: files beside a model with what a hospital from outside the run estimated from scans of its own."""

import hashlib
import json
import shlex
import unicodedata
from pathlib import Path

from pydantic import TypeAdapter

from medisync.errors import ArtifactError, ConfigError, ModelError, printable
from medisync.schemas import Adaptation
from medisync.workspace import json_files
from medisync.workspace.folder_names import folder_names

PREFIX = "adaptation-"
SCHEMA = TypeAdapter(Adaptation)
LONGEST_NAME = 80


def checked_name(text: str) -> str:
    """The name of a hospital from outside as adaptations have it: composed letters, no spaces around it.

    Raises ConfigError if it is empty, too long, or has characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not 0 < len(name) <= LONGEST_NAME or printable(name) != name:
        raise ConfigError(
            f"{name[:LONGEST_NAME]!r}: expected the name of a hospital, of 1 to {LONGEST_NAME} characters that can be seen"
        )
    return name


def file_name(name: str) -> str:
    """The name of the file for a hospital, whatever characters its name has."""
    return f"{PREFIX}{folder_names([name])[name]}.json"


def digest(record: Adaptation) -> str:
    """The SHA-256 of all fields of a record but `sha256`."""
    plain = record.model_dump(mode="json", exclude={"sha256"})
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write(folder: Path, record: Adaptation) -> Path:
    """Writes an adaptation beside the model in `folder`, in place of an earlier one of the same name, and returns its file."""
    file = folder / file_name(record.name)
    json_files.write(file, SCHEMA, record.model_copy(update={"sha256": digest(record)}))
    return file


def find(folder: Path, name: str, model_sha256: str) -> Adaptation | None:
    """The adaptation of that name beside the model in `folder`; None if there is none.

    Raises ModelError if the file is damaged, was edited, or is for another model.
    """
    wanted = unicodedata.normalize("NFC", name).strip()
    file = folder / file_name(wanted)
    return _read(file, model_sha256) if file.is_file() else None


def usable(folder: Path, model_sha256: str) -> list[Adaptation]:
    """The adaptations for this model in `folder`, by name; files that cannot be used are left out."""
    found = []
    for file in sorted(folder.glob(f"{PREFIX}*.json")):
        try:
            found.append(_read(file, model_sha256))
        except ModelError:
            continue  # naming its hospital says what is wrong
    return sorted(found, key=lambda record: record.name)


def _read(file: Path, model_sha256: str) -> Adaptation:
    try:
        record: Adaptation = json_files.read(file, SCHEMA)
    except ArtifactError as error:
        raise ModelError(f"{error}; {_again()}") from None
    if digest(record) != record.sha256:
        raise ModelError(f"{file.name} was changed after it was written (its SHA-256 differs); {_again(record.name)}")
    if file_name(record.name) != file.name:
        raise ModelError(f"{file.name} was renamed: it is for {record.name!r}; {_again(record.name)}")
    if record.model_sha256 != model_sha256:
        raise ModelError(
            f"{file.name} is for another model (its SHA-256 begins with {record.model_sha256[:8]}, this model's with"
            f" {model_sha256[:8]}); {_again(record.name)}"
        )
    return record


def _again(name: str = "NAME") -> str:
    return f"estimate it anew with `medisync adapt DIR --name {shlex.quote(name)}`"
