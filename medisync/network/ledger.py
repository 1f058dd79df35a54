"""A hospital's ledger: the runs that asked, what a person decided, and what has been counted.

It is a file in the hospital's state folder. No message resets it; counts are written before the work that they count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock
from pydantic import TypeAdapter

from medisync.config import Section
from medisync.errors import ConfigError
from medisync.network.run_request import RunRequest
from medisync.workspace import atomic, json_files

WEEK = timedelta(days=7)

MOST_WAITING = 20
"""Runs that may wait for a decision at one time, so that a server cannot fill the ledger."""

Decision = Literal["waiting", "approved", "denied"]


class RunAccount(Section):
    """One run: what it asks for, and what it has been granted."""

    request: RunRequest
    asked: datetime
    decision: Decision = "waiting"
    rounds: int = 0
    evaluations: int = 0


class Accounts(Section):
    """The content of the ledger."""

    runs: Mapping[str, RunAccount] = {}
    """By the name of the request."""
    trainings: tuple[datetime, ...] = ()
    """Begin of each training of the last seven days."""
    evaluations: tuple[datetime, ...] = ()
    """Begin of each evaluation of the last seven days."""

    def of(self, request: RunRequest, now: datetime) -> RunAccount:
        return self.runs.get(request.name) or RunAccount(request=request, asked=now)

    def waiting(self) -> dict[str, RunAccount]:
        return {name: account for name, account in self.runs.items() if account.decision == "waiting"}

    def rounds_in_week(self, now: datetime) -> int:
        return len(_of_week(self.trainings, now))

    def evaluations_in_week(self, now: datetime) -> int:
        return len(_of_week(self.evaluations, now))

    def epsilon_of_others(self, request: RunRequest) -> float:
        """Epsilon that other runs have stated in which this hospital has worked."""
        worked = (account for name, account in self.runs.items() if name != request.name)
        return sum(each.request.epsilon or 0.0 for each in worked if each.rounds or each.evaluations)

    def with_account(self, account: RunAccount) -> Self:
        return self.model_copy(update={"runs": {**self.runs, account.request.name: account}})

    def with_training(self, account: RunAccount, now: datetime) -> Self:
        counted = self.with_account(account.model_copy(update={"rounds": account.rounds + 1}))
        return counted.model_copy(update={"trainings": (*_of_week(self.trainings, now), now)})

    def with_evaluation(self, account: RunAccount, now: datetime) -> Self:
        counted = self.with_account(account.model_copy(update={"evaluations": account.evaluations + 1}))
        return counted.model_copy(update={"evaluations": (*_of_week(self.evaluations, now), now)})


def _of_week(moments: Iterable[datetime], now: datetime) -> tuple[datetime, ...]:
    """Returns the moments of the last seven days. Those of the future, before the clock was set back, count as well."""
    return tuple(moment for moment in moments if moment > now - WEEK)


_schema = TypeAdapter(Accounts)


class Ledger:
    """The ledger in a folder, which one process at a time reads and changes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ledger.json"

    def read(self) -> Accounts:
        """Raises ArtifactError if the file is damaged: a damaged ledger is not a new one."""
        accounts: Accounts = json_files.read(self._file, _schema) if self._file.exists() else Accounts()
        return accounts

    @contextmanager
    def changing(self) -> Iterator[tuple[Accounts, Callable[[Accounts], None]]]:
        """Yields the accounts and a function that replaces them, while no other process can change them."""
        with atomic.explained(f"write {self._file.parent.name}/{self._file.name}"):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._file.parent / "ledger.lock")
            lock.acquire()
        try:
            yield self.read(), self._replace
        finally:
            lock.release()

    def decide(self, name: str, decision: Decision) -> RunAccount:
        """Writes a person's decision on a run that has asked, by its name or the beginning of it.

        Raises ConfigError for a name that fits no run, or several.
        """
        with self.changing() as (accounts, replace):
            fitting = [account for known, account in accounts.runs.items() if known.startswith(name)]
            if len(fitting) != 1 or not name:
                waiting = ", ".join(each.request.short_name for each in accounts.waiting().values()) or "none"
                raise ConfigError(f"{name!r}: no run, or more than one, has this name; waiting: {waiting}")
            decided = fitting[0].model_copy(update={"decision": decision})
            replace(accounts.with_account(decided))
            return decided

    def _replace(self, accounts: Accounts) -> None:
        json_files.write(self._file, _schema, accounts)
