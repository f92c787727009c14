"""Ratings that wait for their user's vector to come home: one linked list a user, in one pool of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import Columns, kernel

Array = np.ndarray[Any, Any]


class RatingPool:
    """First in, first out per user slot. Arrays double when they are full; freed places are used again.

    Attributes:
        item (int64), rating (float32), lane (int32), following (int64): one row a place; `following` links to the
            user's next rating or the next free place, -1 at the end.
        first, last (int64): one row a user slot; -1: no rating waits.
        free (int64): row 0 is the first free place.
    """

    def __init__(self) -> None:
        self.item = np.zeros(64, np.int64)
        self.rating = np.zeros(64, np.float32)
        self.lane = np.zeros(64, np.int32)
        self.following = np.arange(1, 65)
        self.following[-1] = -1
        self.free = np.zeros(1, np.int64)
        self.first = np.full(64, -1, np.int64)
        self.last = np.full(64, -1, np.int64)
        self.size = 0

    def reserve(self, users: int, ratings: int) -> None:
        """Makes room for `users` slots in all, and `ratings` more ratings."""
        if users > len(self.first):
            more = np.full(max(users, 2 * len(self.first)) - len(self.first), -1, np.int64)
            self.first = np.concatenate([self.first, more])
            self.last = np.concatenate([self.last, more])
        old = len(self.item)
        if self.size + ratings > old:
            new = max(self.size + ratings, 2 * old)
            self.item = np.resize(self.item, new)
            self.rating = np.resize(self.rating, new)
            self.lane = np.resize(self.lane, new)
            fresh = np.arange(old + 1, new + 1)
            fresh[-1] = self.free[0]
            self.following = np.concatenate([self.following, fresh])
            self.free[0] = old

    def add(self, slots: Array, items: Array, ratings: Array, lanes: Array, users: int) -> None:
        """Appends a rating for each user slot; `users`: how many slots there are."""
        self.reserve(users, len(slots))
        _add(
            slots,
            items,
            ratings,
            lanes,
            self.item,
            self.rating,
            self.lane,
            self.following,
            self.free,
            self.first,
            self.last,
        )
        self.size += len(slots)

    def rows(self, user_of_slot: Array) -> Columns:
        """All waiting ratings as (user, item, rating), in order within each user."""
        slots, places = _walk(self.first, self.following, self.size)
        return Columns.of(user=user_of_slot[slots], item=self.item[places], rating=self.rating[places])


@kernel
def _add(
    slots: Any,
    items: Any,
    ratings: Any,
    lanes: Any,
    item: Any,
    rating: Any,
    lane: Any,
    following: Any,
    free: Any,
    first: Any,
    last: Any,
) -> Any:
    for i in range(len(slots)):
        slot, place = slots[i], free[0]
        free[0] = following[place]
        item[place], rating[place], lane[place] = items[i], ratings[i], lanes[i]
        following[place] = -1
        if first[slot] < 0:
            first[slot] = place
        else:
            following[last[slot]] = place
        last[slot] = place


@kernel
def _walk(first: Any, following: Any, size: Any) -> Any:
    slots, places = np.empty(size, np.int64), np.empty(size, np.int64)
    n = 0
    for slot in range(len(first)):
        place = first[slot]
        while place >= 0:
            slots[n], places[n] = slot, place
            n += 1
            place = following[place]
    return slots, places
