"""Reads and writes JSON files of a given schema, strictly: no NaN, no infinity, no key twice."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medisync.errors import ArtifactError
from medisync.workspace.atomic import write_bytes


def write(file: Path, schema: TypeAdapter[Any], record: Any) -> None:
    """Validates `record` and writes it atomically. Raises ArtifactError, naming the field, if it is invalid."""
    try:
        plain = schema.dump_python(schema.validate_python(record), mode="json")
        text = json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False)
    except (ValidationError, ValueError) as error:
        raise ArtifactError(f"{file.name} would be invalid: {_first_problem(error)}") from error
    write_bytes(file, text.encode())


def read(file: Path, schema: TypeAdapter[Any]) -> Any:
    """Returns the record in `file`. Raises ArtifactError with the reason if it is missing or damaged."""
    try:
        plain = json.loads(file.read_bytes(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        return schema.validate_python(plain)
    except FileNotFoundError:
        raise ArtifactError(f"{file.name} is missing") from None
    except OSError as error:
        raise ArtifactError(f"{file.name} cannot be read: {error.strerror or error}") from None
    except (ValidationError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file.name} is damaged: {_first_problem(error)}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return unique


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"holds {constant}, which is not a number in JSON")


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the record'}: {first['msg'].removeprefix('Value error, ')}"
    return str(error).splitlines()[0][:200] or type(error).__name__
