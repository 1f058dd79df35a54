"""Errors that a user can act on: each message says what was wrong, what was expected and what to do."""


class MediSyncError(Exception):
    """A foreseeable error; commands print it as one line and exit with 1."""


class ConfigError(MediSyncError):
    """A configuration value breaks a rule; the message names the field."""


class DataError(MediSyncError):
    """A dataset folder cannot be used as it is."""


class ImageError(MediSyncError):
    """The bytes are not an image that this program accepts."""


class ArtifactError(MediSyncError):
    """A file of the workspace is missing or damaged, or has another schema."""


class ModelError(MediSyncError):
    """The weights cannot be trusted or do not fit the architecture."""


class UpdateError(MediSyncError):
    """A client update must not enter the average."""


class FederationError(MediSyncError):
    """A round cannot be completed."""


def printable(text: str) -> str:
    """Returns `text` as one line, with control, bidirectional and other invisible characters escaped.

    In file names and in hospitals' messages they could fake log lines or move the terminal's cursor.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
