"""Windows over rows are those of a model in plain Python: firing by firing, with late records and snapshots in between,
and as whole jobs over finished streams."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore import (
    OutputTag,
    Schema,
    StreamEnvironment,
    WindowFunction,
    Windows,
    bounded_out_of_orderness,
    count,
    count_windows,
    global_windows,
    session,
    sum_of,
)
from streamcore.state.key_groups import groups_of
from tests.row_window_rig import GROUPS, ModelWindows, Rig, every_window

LATE = OutputTag("late")
MANY = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(MANY, max_examples=40)

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from("ab"), st.integers(-25, 25)),
        st.tuples(st.just("watermark"), st.integers(0, 15)),
        st.tuples(st.just("restore"), st.integers(1, 3)),
    ),
    max_size=30,
)
WINDOWS = st.builds(Windows, st.integers(1, 20), st.integers(1, 20), st.integers(-15, 15))


class Collected(WindowFunction):
    def process(self, key, window, records, ctx):
        ctx.emit((key, window.start_ms, window.end_ms, sorted(record[2] for record in records)))


def by_function(windowed):
    return windowed.process(Collected())


def by_fold(windowed):
    return windowed.fold((), lambda state, r: (*state, r[2]), merge=lambda a, b: a + b, result=sorted)


def by_reduce(windowed):
    return windowed.reduce(lambda a, b: (a[0], a[1], a[2] + b[2]))


BUILDS = {"function": by_function, "fold": by_fold, "reduce": by_reduce}


def one_by_one(windows, model, build, events):
    """Feeds the operator and the model the same events, and compares what each event makes fire."""

    def stream():
        records = StreamEnvironment().from_values([]).key_by(lambda record: record[0])
        windowed = records.window(windows, time=lambda record: record[1])
        windowed = windowed.allowed_lateness(model.lateness / 1000).late_to(LATE)
        return BUILDS[build](windowed)

    def value(n):
        return (n,) if build == "reduce" else n

    def fired(rig):
        rows = [row for row in rig.taken() if not isinstance(row, int)]
        if build == "reduce":
            return sorted((key, start, end, sorted(result[2])) for key, start, end, result in rows)
        return sorted(map(tuple, rows))

    rigs, watermark, late = [Rig(stream())], 0, []
    for number, event in enumerate(events):
        if event[0] == "record":
            key, time = event[1], watermark + event[2]  # before it and after it
            owner = next(rig for rig in rigs if rig.store._groups.start <= group_of(key) < rig.store._groups.stop)
            owner.feed((key, time, value(number)))
            expected = model.record(key, time, number)
        elif event[0] == "watermark":
            watermark += event[1]
            for rig in rigs:
                rig.advance(watermark)
            expected = model.advance(watermark)
        else:
            saved = [rig.saved() for rig in rigs]
            late += [row for rig in rigs for row in rig.side["late"]]
            rigs = [Rig(stream(), saved, subtask=i, parallelism=event[1]) for i in range(event[1])]
            expected = []
        assert sorted(row for rig in rigs for row in fired(rig)) == sorted(expected)
    for rig in rigs:
        rig.finish()
    assert sorted(row for rig in rigs for row in fired(rig)) == sorted(model.finish())
    late += [row for rig in rigs for row in rig.side["late"]]
    assert sorted(row[:2] for row in late) == sorted(row[:2] for row in model.late)


def group_of(key):
    return int(groups_of([key], GROUPS)[0])


@MANY
@given(WINDOWS, st.integers(0, 30), EVENTS, st.sampled_from(["function", "fold", "reduce"]))
def test_windows_of_event_time_event_by_event(windows, lateness, events, build):
    model = ModelWindows(every_window(windows.size_ms, windows.every_ms, windows.offset_ms), lateness)
    one_by_one(windows, model, build, events)


@MANY
@given(st.integers(1, 15), st.integers(0, 30), EVENTS, st.sampled_from(["function", "fold", "reduce"]))
def test_sessions_event_by_event(gap, lateness, events, build):
    one_by_one(session(gap / 1000), ModelWindows(gap, lateness), build, events)


# --- whole jobs --------------------------------------------------------------------------------------------

RECORD = Schema.of(key=str, t=int, n=int)


@st.composite
def streams(draw):
    """A bound, and records at most that much out of order."""
    bound, now, rows = draw(st.integers(0, 12)), draw(st.integers(-50, 50)), []
    for number, key in enumerate(draw(st.lists(st.sampled_from("abc"), max_size=30))):
        now += draw(st.integers(0, 8))
        rows.append((key, now - draw(st.integers(0, bound)), number))
    return bound, rows


def sessions(times, gap):
    """Cuts sorted times where the gap is longer."""
    parts = []
    for time in sorted(times):
        if parts and time - parts[-1][-1] <= gap:
            parts[-1].append(time)
        else:
            parts.append([time])
    return [(part[0], part[-1] + gap) for part in parts]


@FEW
@given(
    streams(),
    st.one_of(
        st.tuples(st.just("aligned"), WINDOWS), st.tuples(st.just("session"), st.integers(1, 20)),
        st.tuples(st.just("global"), st.none()),
    ),
    st.sampled_from([1, 2, 7, 8192]),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_whole_streams(stream, kind, batch_size, parallelism, typed, keyed):
    (bound, rows), (name, setting) = stream, kind
    env = StreamEnvironment("rows", parallelism=parallelism, batch_size=batch_size)
    source = env.from_values(rows, RECORD if typed else None)
    source = source.assign_watermarks(bounded_out_of_orderness("t" if typed else lambda row: row[1], bound / 1000))
    windows = {"aligned": lambda: setting, "session": lambda: session(setting / 1000), "global": global_windows}[name]()
    windowed = source.key_by(lambda row: row[0]).window(windows) if keyed else source.window_all(windows)
    results = windowed.aggregate(count(), total=sum_of("n")) if typed else windowed.fold((0, 0), added, merge=joined)

    expected = defaultdict(lambda: [0, 0])
    places = {}
    for key in {row[0] if keyed else None for row in rows}:
        times = [row[1] for row in rows if not keyed or row[0] == key]
        places[key] = sessions(times, setting) if name == "session" else []
    for row in rows:
        key, time = row[0] if keyed else None, row[1]
        if name == "aligned":
            found = every_window(setting.size_ms, setting.every_ms, setting.offset_ms)(time)
        else:
            found = [place for place in places[key] if place[0] <= time < place[1]] if name == "session" else [()]
        for place in found:
            total = expected[(key, *place)]
            total[0] += 1
            total[1] += row[2]
    wanted = sorted(((*place, *total) for place, total in expected.items()), key=str)
    assert sorted((flat(row, typed=typed, keyed=keyed) for row in results.execute_and_collect()), key=str) == wanted


def added(state, row):
    return state[0] + 1, state[1] + row[2]


def joined(state, other):
    return state[0] + other[0], state[1] + other[1]


def flat(row, *, typed, keyed):
    if typed and not keyed:
        return (None, *row)
    *place, value = row
    return (*place, *(value.values() if typed else value))


@FEW
@given(st.lists(st.sampled_from("ab"), max_size=30), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 100]))
def test_count_windows(keys, size, every, batch_size):
    rows = [(key, 0, number) for number, key in enumerate(keys)]
    env = StreamEnvironment("rows", parallelism=1, batch_size=batch_size)
    stream = env.from_values(rows).key_by(lambda row: row[0]).window(count_windows(size, every=every))
    results = stream.fold((), lambda state, row: (*state, row[2])).execute_and_collect()
    expected = []
    for key in sorted(set(keys)):
        own = [row[2] for row in rows if row[0] == key]
        expected += [(key, tuple(own[max(0, end - size) : end])) for end in range(every, len(own) + 1, every)]
    assert sorted(map(tuple, results)) == sorted(expected)
