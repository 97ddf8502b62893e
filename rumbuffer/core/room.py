"""Room: the memory limit, and who may take what is free of it.

Memory is bounded by charges, not by counts: every event costs its length + 100 bytes and every open
batch 400 + its envelope, from its admission to its final outcome. So what is in flight is within the
bound too, and the bound holds whatever the service does.

Room has an order of precedence. `put()` calls that wait for room are served first come, first served,
and only from room that became free by itself; while any of them waits, everybody else may take only
room that their own eviction made. Room that a waiter is granted is reserved for it at once, and given
back if it does not want it any more, so that a cancelled `put()` was never admitted.
"""

from __future__ import annotations

from collections import deque

from rumbuffer.core.news import News

__all__ = ["Room", "RoomWaiter"]


class RoomWaiter:
    """A `put()` that waits for `needed` bytes; `granted` once they are reserved for it."""

    __slots__ = ("granted", "needed")

    def __init__(self, needed: int) -> None:
        self.needed: int = needed
        self.granted: bool = False


class Room:
    """`capacity` bytes, of which `free` are not charged.

    `fixed` of the charged ones cannot be freed by an eviction: sealed batches, and reservations.
    """

    __slots__ = ("_news", "capacity", "fixed", "free", "reserved", "waiters")

    def __init__(self, capacity: int, news: News) -> None:
        self.capacity: int = capacity
        self.free: int = capacity
        self.fixed: int = 0
        self.reserved: int = 0
        """How many waiters hold a reservation that they have not used yet."""
        self.waiters: deque[RoomWaiter] = deque()
        self._news = news

    @property
    def pressure(self) -> float:
        """The share of the capacity that is charged; 1 while somebody waits for room."""
        return 1.0 if self.waiters else max(0.0, 1.0 - self.free / self.capacity)

    def evictable(self) -> int:
        """Return the bytes that evicting everything would free."""
        return self.capacity - self.free - self.fixed

    def available(self, made: int) -> int:
        """Return what an event that does not wait may take, `made` bytes by its own evictions included."""
        return made if self.waiters else self.free

    def queue(self, needed: int) -> RoomWaiter:
        """Wait for room."""
        waiter = RoomWaiter(needed)
        self.waiters.append(waiter)
        return waiter

    def use(self, waiter: RoomWaiter) -> None:
        """Turn a reservation back into free room, to be taken at once or granted to the next."""
        self.free += waiter.needed
        self.fixed -= waiter.needed
        self.reserved -= 1
        waiter.granted = False

    def withdraw(self, waiter: RoomWaiter) -> None:
        """The waiter wants no room any more."""
        if waiter.granted:
            self.use(waiter)
        else:
            self.waiters.remove(waiter)
        self.grant()

    def grant(self) -> None:
        """Reserve free room for those who wait, first come, first served. After every change of room."""
        while self.waiters and self.waiters[0].needed <= self.free:
            waiter = self.waiters.popleft()
            waiter.granted = True
            self.free -= waiter.needed
            self.fixed += waiter.needed
            self.reserved += 1
            self._news.grant(waiter)
