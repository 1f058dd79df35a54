"""Observers: how a run follows a federation while it works, without the federation knowing of files or progress bars."""

from medisync.federation.checkpoint import Checkpoint, CheckpointFolder


class TrainingObserver:
    """Is told what a federation does and ignores it. Override the methods for what you want to follow."""

    def images_processed(self, hospital: str, activity: str, round_number: int, count: int) -> None:
        """`hospital` has processed `count` more images; `activity` says what for."""

    def round_validated(self, checkpoint: Checkpoint) -> None:
        """A round has been validated, and the next one has not begun."""


class Observers(TrainingObserver):
    """Several observers as one, told in their order."""

    def __init__(self, *observers: TrainingObserver) -> None:
        self._observers = observers

    def images_processed(self, hospital: str, activity: str, round_number: int, count: int) -> None:
        for observer in self._observers:
            observer.images_processed(hospital, activity, round_number, count)

    def round_validated(self, checkpoint: Checkpoint) -> None:
        for observer in self._observers:
            observer.round_validated(checkpoint)


class CheckpointSaver(TrainingObserver):
    """Saves the checkpoint of every validated round under one name."""

    def __init__(self, checkpoints: CheckpointFolder, name: str) -> None:
        self._checkpoints = checkpoints
        self._name = name

    def round_validated(self, checkpoint: Checkpoint) -> None:
        self._checkpoints.save(self._name, checkpoint)
