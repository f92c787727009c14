"""filter_batch, select and with_columns by expressions: results as polars has them, mistakes told with the line."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pytest

from streamcore import Schema, StreamEnvironment, Vector, col, lit, when
from streamcore.errors import TopologyError


@dataclass
class Reading:
    sensor: str
    celsius: float
    level: int | None


READINGS = [Reading(f"s{n % 3}", n * 1.5 - 60.0, None if n % 4 == 0 else n) for n in range(40)]
FRAME = pl.DataFrame([vars(reading) for reading in READINGS])


def readings(**options):
    return StreamEnvironment(batch_size=7, **options).from_values(READINGS, Reading)


def test_a_filter_keeps_the_records_and_their_class():
    hot = readings().filter_batch((col("celsius") > -50) & ((col("level") % 2 == 1) | (col("sensor") == "s0")))
    wanted = FRAME.filter((pl.col("celsius") > -50) & ((pl.col("level") % 2 == 1) | (pl.col("sensor") == "s0")))
    assert hot.execute_and_collect() == [Reading(**row) for row in wanted.to_dicts()]


def test_filter_takes_an_expression_too():
    cold = readings().filter(col("celsius") < -50)
    assert cold.execute_and_collect() == [reading for reading in READINGS if reading.celsius < -50]
    with pytest.raises(TopologyError, match=r'filter \(test_dsl_expressions.py:\d+\): col."celcius"'):
        readings().filter(col("celcius") < 0)


def test_a_filter_still_takes_a_function():
    hot = readings().filter_batch(lambda columns: columns["celsius"] > -50)
    assert hot.execute_and_collect() == [reading for reading in READINGS if reading.celsius > -50]


def test_select_names_and_makes_columns_in_the_order_given():
    chosen = readings().select("celsius", "sensor", total=col("celsius") + col("level"), one=1)
    assert str(chosen.schema) == "(celsius: double, sensor: string, total: double?, one: int64)"
    wanted = FRAME.select("celsius", "sensor", total=pl.col("celsius") + pl.col("level"), one=1).rows()
    assert [tuple(row) for row in chosen.execute_and_collect()] == wanted


def test_with_columns_adds_at_the_end_and_replaces_in_place():
    changed = readings().with_columns(
        fahrenheit=col("celsius") * 1.8 + 32,
        sensor=col("sensor").str.upper(),
        state=when(col("celsius") < -20).then("cold").otherwise("fine"),
    )
    wanted = FRAME.with_columns(
        fahrenheit=pl.col("celsius") * 1.8 + 32,
        sensor=pl.col("sensor").str.to_uppercase(),
        state=pl.when(pl.col("celsius") < -20).then(pl.lit("cold")).otherwise(pl.lit("fine")),
    )
    assert changed.schema.names == tuple(wanted.columns)
    assert [tuple(row) for row in changed.execute_and_collect()] == wanted.rows()


def test_records_keep_their_class_where_the_type_stays():
    colder = readings().with_columns(celsius=col("celsius") - 1)
    assert colder.execute_and_collect() == [Reading(r.sensor, r.celsius - 1, r.level) for r in READINGS]


def test_the_new_columns_can_be_used_by_what_follows():
    counted = readings().with_columns(cold=col("celsius") < -20).key_by("cold").count(emit="final")
    wanted = FRAME.group_by(pl.col("celsius") < -20).len().rows()
    assert sorted(tuple(row) for row in counted.execute_and_collect()) == sorted(wanted)


def test_expressions_travel_to_workers():
    stream = readings(workers=2).rebalance().with_columns(warm=col("celsius").between(-30, 0)).filter_batch(col("warm"))
    wanted = FRAME.filter(pl.col("celsius").is_between(-30, 0))
    assert sorted(row.celsius for row in stream.execute_and_collect()) == wanted["celsius"].to_list()


MISTAKES = [
    (lambda s: s.filter_batch(col("celcius") > 0), 'filter_batch.*col."celcius". > 0: there is no column'),
    (lambda s: s.filter_batch(col("sensor") > 0), 'col."sensor". > 0: > can\'t take text and number'),
    (lambda s: s.filter_batch(col("celsius") + 1), r'col."celsius". \+ 1: it is double, not true or false'),
    (lambda s: s.select("sensor", "level2"), 'select.*col."level2".: there is no column'),
    (lambda s: s.select(), "select .* got no columns"),
    (lambda s: s.with_columns(), "with_columns .* got no columns"),
    (lambda s: s.with_columns(x=col("sensor").abs()), r"with_columns.*abs\(\): it needs number, not text"),
    (lambda s: s.with_columns(x=col("celsius").str.lower()), r"str.lower\(\): it needs text, not number"),
    (lambda s: s.with_columns(x=col("celsius") & True), "& can't take number and boolean"),
    (lambda s: s.with_columns(x=lit(None)), "None alone has no type"),
    (lambda s: s.with_columns(x=col("level") == None), "== can't take None"),  # noqa: E711 - the mistake
    (lambda s: s.with_columns(x=when(col("level")).then(1).otherwise(0)), "it needs boolean, not number"),
    (lambda s: s.with_columns(x=when(col("level") > 1).then(1).otherwise("a")), "can't take number and text"),
    (lambda s: s.with_columns(x=col("level").isin(["a"])), "isin can't take number and text"),
    (lambda s: s.with_columns(y=object()), r"with_columns \(.*object can't be used"),
    (lambda s: s.with_columns(x=col("level").cast(object)), "has no column form"),
    (lambda s: s.with_columns(x=col("sensor").str.contains("(", regex=True)), r"contains: .*\("),
]


@pytest.mark.parametrize(("use", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_found_when_the_topology_is_built(use, message):
    with pytest.raises(TopologyError, match=message):
        use(readings())


def test_a_mistake_names_the_line():
    stream = readings()
    with pytest.raises(TopologyError, match=r"with_columns \(test_dsl_expressions.py:\d+\): col") as caught:
        stream.with_columns(x=col("nothing") * 2)
    assert "sensor, celsius, level" in caught.value.hint


def test_and_or_not_and_chains_of_comparisons_are_refused():
    for use in (
        lambda: col("a") > 1 and col("b") > 1,
        lambda: not col("a"),
        lambda: 1 < col("a") < 2,
        lambda: 1 if col("a") == 1 else 2,
    ):
        with pytest.raises(TopologyError, match="true or false only for a record") as caught:
            use()
        assert "& | ~" in caught.value.hint


def test_a_stream_without_type_has_no_columns():
    stream = StreamEnvironment().from_values([1, 2])
    for use in (lambda: stream.select("a"), lambda: stream.with_columns(a=1), lambda: stream.filter_batch(col("a"))):
        with pytest.raises(TopologyError, match="works on columns, but the stream"):
            use()


def test_vectors_pass_through():
    stream = StreamEnvironment().from_values([((1.0, 2.0), 3)], Schema.of(v=Vector(2), n=int))
    assert stream.select("n", "v").execute_and_collect()[0].v.tolist() == [1.0, 2.0]
    with pytest.raises(TopologyError, match="can't take vector and number"):
        stream.select(x=col("v") + 1)
