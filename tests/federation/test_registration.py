"""Registration of hospitals whose administrators have yet to approve a run."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.errors import FederationError
from medisync.federation import registration, simulation
from medisync.federation.messages import CLIENT_RAISED, Participants
from medisync.federation.registration import HELLO, ClientRegistration
from medisync.schemas import LABELS, DatasetStats, HospitalAudit, Introduction, Location
from medisync.version import software

WAITS = "its policy refuses this (approval): the run 012345 waits for approval by its administrator"


def introduction(name: str) -> Introduction:
    counts = dict.fromkeys(LABELS, 5)
    zeros = dict.fromkeys(("unresolved", "unreadable", "quarantined", "patients", "exact_copies", "near_copies"), 0)
    tables: dict[str, Any] = {"skipped": {}, "sizes": {}, "modes": {}, "folders": [], "notes": []}
    return Introduction(
        hospital=name,
        version=software(),
        labels=list(LABELS),
        synthetic=True,
        dataset_id="d",
        stats=DatasetStats(total=20, class_distribution=counts, location=Location(lat=0, lon=0)),
        audit=HospitalAudit(path="", class_distribution=counts, total=20, **zeros, **tables),
    )


class Federation:
    """Two hospitals, of which South says what `south` holds, one after the other; the last for ever."""

    def __init__(self, *south: str) -> None:
        self.south, self.asked = list(south), 0

    def registered(self, act: Any) -> Any:
        """Returns what `act` returns for a registration of both hospitals."""
        client, server, found = ClientApp(), ServerApp(), list[Any]()

        @client.query(HELLO)
        def hello(message: Message, context: Context) -> Message:
            name = {2: "North", 3: "South"}[context.node_id]
            if name == "South":
                self.asked += 1
                said = self.south.pop(0) if len(self.south) > 1 else self.south[0]
                if said:
                    return Message(Error(code=CLIENT_RAISED, reason=said), reply_to=message)
            return Message(registration.to_record(introduction(name)), reply_to=message)

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            nodes = [
                SimpleNamespace(node_id=number, name=name, last_activated_at="today")
                for number, name in ((2, "North"), (3, "South"))
            ]
            vars(grid)["get_nodes"] = lambda: nodes
            found.append(act(ClientRegistration(grid, frozenset({"North", "South"}), 1, 0.0)))

        simulation.run_apps(server, client, {2: {}, 3: {}})
        return found[0]


def gathered(members: ClientRegistration) -> Participants:
    members.gather(600)  # ends when all have said yes or no
    return members.find_participants()


def test_a_hospital_that_waits_for_approval_is_asked_again_and_joins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registration, "ASK_AGAIN_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    federation = Federation(WAITS, WAITS, "")
    found = federation.registered(gathered)
    assert sorted(found.hospitals.values()) == ["North", "South"]
    assert federation.asked == 3
    assert caplog.text.count("South was not let in") == 1  # said once


def test_a_hospital_whose_administrator_says_no_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "ASK_AGAIN_SECONDS", 0.0)
    federation = Federation(WAITS, "denied")
    found = federation.registered(lambda members: (gathered(members), members.find_participants())[1])
    assert list(found.hospitals.values()) == ["North"]
    assert federation.asked == 2
    (absent,) = found.absent
    assert (absent.hospital, absent.reason) == ("South", "was not let in: it could not introduce itself: denied")


def test_a_run_does_not_begin_before_enough_hospitals_have_approved() -> None:
    def too_few(members: ClientRegistration) -> str:
        members.at_least = 2
        with pytest.raises(FederationError) as error:
            members.find_participants()
        return str(error.value)

    assert "South was not let in: it could not introduce itself: its policy refuses" in Federation(WAITS).registered(
        too_few
    )
