"""Accumulators to which more matters than numbers that can be added up in any order."""

from __future__ import annotations

import numpy as np

from streamcore.state.accumulators import Part


class InOrder:
    """The order in which records are added and values merged matters to it."""

    first = 7
    parts = (Part("order", np.dtype(np.int64), first),)

    @staticmethod
    def of(values, before=first):
        """The value when these records have been added."""
        for n in values:
            before = (before * 131 + n) % 2**31
        return before

    @staticmethod
    def merged(one, other):
        """The value when another has been merged into one."""
        return (one * 1_000_003 + other * 31 + 1) % 2**31

    def add(self, totals, entries, batch):
        for entry, n in zip(entries.tolist(), batch["n"].tolist(), strict=True):
            totals[0][entry] = self.of([n], int(totals[0][entry]))

    def merge(self, totals, entries, partial):
        for entry, value in zip(entries.tolist(), partial[0].tolist(), strict=True):
            totals[0][entry] = self.merged(int(totals[0][entry]), value)


class Objects:
    """Keeps a list of what came."""

    parts = (Part("values", np.dtype(object), None),)

    def add(self, totals, entries, batch):
        for entry, n in zip(entries.tolist(), batch["n"].tolist(), strict=True):
            if totals[0][entry] is None:
                totals[0][entry] = []
            totals[0][entry].append(n)

    def merge(self, totals, entries, partial):
        for entry, values in zip(entries.tolist(), partial[0], strict=True):
            totals[0][entry] = (totals[0][entry] or []) + values
