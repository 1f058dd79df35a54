"""Reads TOML files that a person writes, each by its schema."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from medisync.config import Section
from medisync.errors import ConfigError

Content = TypeVar("Content", bound=Section)


def read(kind: type[Content], file: Path, advice: str) -> Content:
    """Returns the content of `file`. Raises ConfigError that names the file, the field and the rule.

    `advice` says what to do where there is no file that can be read.
    """
    try:
        return kind.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); {advice}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file.name}: is not valid TOML ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{file.name}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
