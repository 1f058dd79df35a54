"""Pseudonyms under the hospital's own secret key: without the key nobody can tell, or check, whom one stands for."""

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medisync.errors import ConfigError
from medisync.workspace.atomic import PARTIAL, explained

KEY_BYTES = 32

Kind = Literal["patient", "image", "key"]
"""What is named: the same identifier gets different pseudonyms as different kinds of thing."""

LETTERS = 16
"""Hexadecimal digits of a pseudonym, 64 bits: among a million of them two are the same with a chance of 3 in 100 million."""


@dataclass(frozen=True)
class Pseudonyms:
    """Gives pseudonyms: HMAC-SHA-256 (RFC 2104) of the identifier, shortened."""

    key: bytes = field(repr=False)

    def name(self, kind: Kind, *identifier: str) -> str:
        parts = "\0".join([kind, *identifier])  # no DICOM value holds a NUL inside
        return hmac.new(self.key, parts.encode(), hashlib.sha256).hexdigest()[:LETTERS]

    @property
    def check(self) -> str:
        """A name of the key itself, by which a dataset knows whether its patients were named with it."""
        return self.name("key")


def load_or_make(file: Path) -> tuple[Pseudonyms, bool]:
    """Returns the pseudonyms of the key in `file`, and whether the key was made now, for its owner's eyes only.

    Raises ConfigError if the file is no key, or if others may read it.
    """
    made = not os.path.lexists(file) and _make(file)
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{file}: the secret key cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        text = ""
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{file}: the secret key may be read or changed by others; run chmod 600 on it")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"{file}: is no secret key, expected {2 * KEY_BYTES} hexadecimal digits; name another file with --secret"
        )
    return Pseudonyms(key), made


def _make(file: Path) -> bool:
    """Makes a key, whole or not at all; returns False if another process was faster, whose key then stays."""
    with explained(f"write the secret key to {file.parent.name}/{file.name}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", suffix=PARTIAL, dir=file.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(f"{secrets.token_hex(KEY_BYTES)}\n")
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileExistsError):
                os.link(temporary, file)
                return True
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
