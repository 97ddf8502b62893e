"""The test's own account of every event, kept from nothing but what the core says to its caller.

An event is an integer. It is offered once, and is then refused, waiting for room, alive in the buffer,
or has one fate. The ledger also knows every request that was ever sent, and so whether a sealed batch
changed, and whether events of a batch that may have been stored travel under another id.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from rumbuffer.core.flights import Flight
from rumbuffer.core.news import Arrived, Fate, Waiter
from rumbuffer.core.notices import DeadLettered, Dropped, Notice
from rumbuffer.core.outcomes import Delivered, Failed, Outcome, Rejected, TooLarge
from rumbuffer.core.sealed import SealedBatch
from tests.core.helpers import number_of


@dataclass
class Ledger:
    """Where each event is, by its number."""

    alive: set[int] = field(default_factory=set)
    fate: dict[int, str] = field(default_factory=dict)
    refused: int = 0
    accepted: int = 0
    order: dict[int, int] = field(default_factory=dict)
    """When each event was admitted."""
    listeners: dict[Waiter, int] = field(default_factory=dict)
    """Who waits for which event."""
    batches: dict[str, tuple[SealedBatch, bytes]] = field(default_factory=dict)
    """Every batch that was sent, with its body, by its id."""
    bound_to: dict[int, str] = field(default_factory=dict)
    """Events that may have been stored, with the id that they were sent under."""

    def admit(self, number: int) -> None:
        """The event was accepted."""
        assert number not in self.order
        self.order[number] = len(self.order)
        self.accepted += 1
        self.alive.add(number)

    def end(self, number: int, fate: str) -> None:
        """The event is delivered or lost; it was alive until now."""
        assert number in self.alive, f"event {number} is {fate} and was {self.fate.get(number)} already"
        self.alive.remove(number)
        self.fate[number] = fate

    def sent(self, flight: Flight) -> None:
        """A request is sent: new, or the same as before."""
        batch = flight.batch
        body = batch.body()
        known = self.batches.setdefault(batch.id, (batch, body))
        assert known[0] == batch, "a sealed batch changed"
        assert known[1] == body, "a sealed batch's body changed"
        events = [number_of(encoded) for encoded in batch.events]
        assert self.alive.issuperset(events)
        places = [self.order[number] for number in events]
        assert places == sorted(places), "admission order does not hold inside a batch"
        for number in events:
            assert self.bound_to.get(number, batch.id) == batch.id, "what may be stored was sent as another"

    def answered(self, batch: SealedBatch, outcome: Outcome) -> None:
        """A request was answered with this, and the core was told."""
        events = [number_of(encoded) for encoded in batch.events]
        match outcome:
            case Delivered():
                for number in events:
                    self.end(number, "delivered")
            case Failed(unsent=False):
                self.bound_to.update(dict.fromkeys(events, batch.id))
            case Rejected() | TooLarge():  # then the earlier tries were refused too
                for number in events:
                    self.bound_to.pop(number, None)
            case _:
                pass

    def hear(self, notices: list[Notice]) -> None:
        """The host was told of losses."""
        for notice in notices:
            if isinstance(notice, (Dropped, DeadLettered)):
                for encoded in notice.events:
                    self.end(number_of(encoded), notice.reason)
            if isinstance(notice, Dropped):
                assert notice.count == len(notice.events)
                assert notice.size == sum(map(len, notice.events))

    def answer_listeners(self, fates: list[tuple[Waiter, Fate]]) -> None:
        """Those who wait for an event are told its fate, once, and it is true."""
        for waiter, fate in fates:
            number = self.listeners.pop(waiter)
            if isinstance(fate, Arrived):
                assert self.fate[number] == "delivered"
                assert number in [number_of(encoded) for encoded in self.batches[fate.batch_id][0].events]
            else:
                assert self.fate[number] == fate.reason
        assert self.alive.issuperset(self.listeners.values()), "somebody waits for what has its fate"

    def halves_are_derived(self) -> None:
        """Check that every id is a new one or the UUIDv5 of a batch that was sealed before."""
        for batch, _ in self.batches.values():
            for name, half in zip(("first", "second"), batch.halves(), strict=True):
                assert half.id == str(uuid.uuid5(uuid.UUID(batch.id), name))

    def count(self, fate: str) -> int:
        """Return how many events ended so."""
        return sum(ended == fate for ended in self.fate.values())
