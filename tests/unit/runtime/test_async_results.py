"""In which order the results of asynchronous calls leave."""

import time

from hypothesis import given
from hypothesis import strategies as st

from streamcore.runtime.async_results import Results

STEPS = st.lists(st.one_of(st.just("record"), st.just("watermark"), st.integers(0, 20)), max_size=60)


def run(steps, *, ordered):
    """What leaves, with numbers as records and their negatives as watermarks. An integer step answers one of the
    requests that wait; at the end all the others are answered."""
    results, waiting, left, number = Results(ordered=ordered), [], [], 0

    def take():
        left.extend(item if isinstance(item, int) else item.record for item in results.take())

    for step in [*steps, *[0] * len(steps)]:
        if step == "watermark":
            results.add_watermark(-number)
        elif step == "record":
            number += 1
            waiting.append(results.add(number))
        elif waiting:
            results.answered(waiting.pop(step % len(waiting)))
        assert sorted(results.records) == sorted(set(range(1, number + 1)) - set(left))
        take()
        assert len(results) == len(results.records)
    assert len(results) == 0
    return left


def watermark_rule(left):
    """No record passes a watermark in either direction: each is -(number of records before it)."""
    seen, highest = 0, 0
    for item in left:
        if item <= 0:
            assert seen == -item == highest or (seen == -item and highest <= -item)
        else:
            seen, highest = seen + 1, max(highest, item)


@given(STEPS)
def test_ordered_results_leave_in_the_order_of_their_records(steps):
    left = run(steps, ordered=True)
    records = [item for item in left if item > 0]
    assert records == sorted(records)
    watermark_rule(left)


@given(STEPS)
def test_unordered_results_stay_between_their_watermarks(steps):
    left = run(steps, ordered=False)
    assert sorted(item for item in left if item > 0) == list(range(1, steps.count("record") + 1))
    watermark_rule(left)


def test_unordered_results_leave_as_the_answers_come():
    results = Results(ordered=False)
    first, second = results.add("first"), results.add("second")
    results.answered(second)
    assert [request.record for request in results.take()] == ["second"]
    results.answered(first)
    assert [request.record for request in results.take()] == ["first"]


def test_a_later_watermark_replaces_one_that_waits():
    results = Results(ordered=True)
    request = results.add("record")
    results.add_watermark(5)
    results.add_watermark(7)
    assert list(results.take()) == []
    results.answered(request)
    assert list(results.take()) == [request, 7]


def test_many_requests_that_are_answered_at_once_leave_in_linear_time():
    results = Results(ordered=True)
    for request in [results.add(number) for number in range(80_000)]:
        results.answered(request)
    started = time.process_time()
    assert sum(1 for _ in results.take()) == 80_000
    assert time.process_time() - started < 2, "0.1 s are usual, and 6 s where the first is looked for from the start"
