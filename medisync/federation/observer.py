"""Observers follow a federation while it works, so that the federation knows nothing of files and progress bars."""

from medisync.federation.checkpoint import Checkpoint, CheckpointFolder


class TrainingObserver:
    """Ignores everything it is told; subclasses override the methods for the events that they follow."""

    def images_processed(self, hospital: str, activity: str, round_number: int, count: int) -> None:
        """Called after `hospital` has processed `count` more images; `activity` names the purpose."""

    def round_validated(self, checkpoint: Checkpoint) -> None:
        """Called after every validated round, before the next one begins."""


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
