"""The errors that a person can act on: each message says what was wrong, what was expected and what to do."""


class MediSyncError(Exception):
    """Anything foreseeable; the commands print it as one line and exit with 1."""


class ConfigError(MediSyncError):
    """A configuration value breaks a rule; the message names the field."""


class DataError(MediSyncError):
    """A dataset folder cannot be used as it is."""


class ImageError(MediSyncError):
    """The bytes are no image that this program accepts."""


class ArtifactError(MediSyncError):
    """A file of the workspace is missing, damaged or of another schema."""


class ModelError(MediSyncError):
    """Weights that cannot be trusted or do not fit the architecture."""


class UpdateError(MediSyncError):
    """A hospital's update that must not enter the average."""


class FederationError(MediSyncError):
    """A round that cannot be completed."""


def printable(text: str) -> str:
    """One line without control, bidirectional or other invisible characters: those of file names and of what a hospital
    answers would make up log lines, or move the terminal's cursor. They are shown as their escapes.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
