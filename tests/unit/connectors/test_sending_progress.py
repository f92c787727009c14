from __future__ import annotations

import asyncio
import random

import pytest

from streamcore.connectors.progress import Progress
from streamcore.errors import ConnectorError


def test_a_cut_is_done_when_all_before_it_are_answered_in_whatever_order():
    async def run(seed):
        chance = random.Random(seed)
        progress, cuts, numbers, answered = Progress(), [], [], set()
        for _ in range(200):
            if chance.random() < 0.5:
                numbers.append(progress.begin())
            elif open_ones := [n for n in numbers if n not in answered]:
                number = chance.choice(open_ones)
                answered.add(number)
                progress.answered(number)
            if chance.random() < 0.2:
                cuts.append((len(numbers), progress.cut()))
            assert progress.pending == len(numbers) - len(answered)
            for before, cut in cuts:
                assert cut.done() == answered.issuperset(numbers[:before])

    for seed in range(30):
        asyncio.run(run(seed))


def test_cuts_that_nobody_waits_for_any_more_are_in_nobodys_way():
    async def run():
        progress = Progress()
        number = progress.begin()
        first, second = progress.cut(), progress.cut()
        first.cancel()
        progress.answered(number)
        assert second.done()

    asyncio.run(run())


def test_a_failure_ends_all_cuts():
    async def run():
        progress = Progress()
        progress.begin()
        before = progress.cut()
        progress.fail(ConnectorError("gone"))
        for cut in (before, progress.cut()):
            with pytest.raises(ConnectorError, match="gone"):
                await cut

    asyncio.run(run())
