"""Judges records as they come, and writes an alert for each that is likely fraud, with the reasons.

Output, as JSON lines or messages: `alerts` (`{"kind", "score", "reasons", "held_back", ...}` and the fields of the
judged record), `malformed` (what could not be read), `rejected` (payments that can't be) and, at the end of input,
`summary` (`{"class", "records", "alerts"}`: a line for each kind of record that the data knows of).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamcore import App, DataStream, JobResult, StreamEnvironment, UsageError, col, count, minutes, sum_of, when
from streamcore.apps.conventions import (
    MALFORMED,
    check_setting,
    is_topics,
    messages,
    place,
    where_results_are,
    write,
)
from streamcore.apps.fraud import cards, clicks, intrusion
from streamcore.apps.fraud.planted import KINDS, TRANSACTION, PlantedTransactions
from streamcore.apps.fraud.report import report
from streamcore.connectors.base import Source
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.operators.rate_limit import rate_limit


@dataclass(frozen=True)
class Kind:
    """How the judged records of a kind of fraud become results.

    Attributes:
        reasons: why a record was given its score, in words.
        label: the field that says what the record really is, and `class_of` names it in words.
        by: the fields of what a flood of alerts is about.
        every: seconds after which there may be one more of a flood, by the field `time`.
    """

    name: str
    reasons: Callable[[Any], list[str]]
    label: str
    class_of: Callable[[Any], str]
    by: tuple[str, ...]
    every: float
    time: str = "time"


def _payment(fraud: int) -> str:
    return KINDS[fraud] if fraud >= 0 else "unknown"


def _click(downloaded: int) -> str:
    return "download" if downloaded else "no download"


CARDS = Kind("cards", cards.reasons, "fraud", _payment, ("card",), minutes(60))
CLICKS = Kind("clicks", clicks.reasons, "downloaded", _click, ("ip",), minutes(60))
# connections have no times: the next alert of a flood comes after a thousand connections, as if each took a millisecond
INTRUSION = Kind("intrusion", intrusion.reasons, "label", str, ("service", "rules"), 1.0, time="number")


def judged_payments(
    env: StreamEnvironment, path: str, number: int, cards_in_all: int, rate: float, write_to: str
) -> DataStream[cards.Judged]:
    """Payments of a CSV file or of topics, or planted ones, judged in order for each card; those that can't be are set
    aside."""
    if path:
        source: Source[Any] = CsvSource(path, TRANSACTION, on_error="side_output")
        if is_topics(path):
            source = messages(path, TRANSACTION)
        payments = env.source(source, name="payments")
        write(payments.bad_records(), write_to, MALFORMED)
        # false of what is no number: one of these would be in its card's averages for good
        can_be = (col("amount").abs() <= 1e12) & (col("lat").abs() <= 90) & (col("lon").abs() <= 180)
        write(payments.filter(~can_be).uid("rejected"), write_to, "rejected")
        is_known = (col("fraud") >= 0) & (col("fraud") < len(KINDS))
        known = when(is_known).then(col("fraud")).otherwise(-1)
        # one subtask: dealt out over several, a card's payments would lose their order
        possible = payments.filter(can_be).uid("possible").parallelism(1)
        payments = possible.with_columns(fraud=known).parallelism(1)
    else:
        planted = GeneratorSource(PlantedTransactions(cards_in_all), number, rate or None, schema=TRANSACTION)
        payments = env.source(planted, name="payments")
    return payments.key_by("card").scan(cards.Card(), cards.judge, returns=cards.Judged).uid("judge")


def build(
    env: StreamEnvironment,
    *,
    kind: str = "cards",
    input: str = "",  # noqa: A002 - the name of the setting in every app
    source: str = "",
    output: str = "out/fraud",
    sink: str = "",
    threshold: float = 0.5,
    at_once: int = 10,
    payments: int = 400_000,
    cards_in_all: int = 5000,
    rate: float = 0.0,
) -> None:
    """Builds the topology of one kind of fraud: `cards`, `clicks` or `intrusion`."""
    check_setting("threshold", threshold, 0, 1)
    check_setting("at_once", at_once, 0)
    check_setting("payments", payments, 0)
    check_setting("cards_in_all", cards_in_all, 1)
    check_setting("rate", rate, 0)
    read_from, write_to = place(source, input), place(sink, output)
    judged: DataStream[Any]
    if kind == "cards":
        judged = judged_payments(env, read_from, payments, cards_in_all, rate, write_to)
        _add_results(judged, CARDS, threshold, at_once, write_to)
    elif kind == "clicks":
        if not read_from:
            raise UsageError("fraud: no click log ships with streamcore", hint="name one: --set input=clicks.csv.gz")
        judged, malformed = clicks.judged_clicks(env, read_from)
        _add_results(judged, CLICKS, threshold, at_once, write_to)
        write(malformed, write_to, MALFORMED)
    elif kind == "intrusion":
        judged, malformed = intrusion.judged_connections(env, read_from or str(intrusion.SHIPPED))
        _add_results(judged, INTRUSION, threshold, at_once, write_to)
        write(malformed, write_to, MALFORMED)
    else:
        raise UsageError(f"fraud: there is no kind {kind!r} of fraud", hint="--set kind=cards, clicks or intrusion")


def _add_results(judged: DataStream[Any], kind: Kind, threshold: float, at_once: int, write_to: str) -> None:
    """Adds what leads from judged records to the results."""

    def alert(record: Any) -> dict[str, Any]:
        others = {name: value for name, value in record._asdict().items() if name != "score"}
        return {"kind": kind.name, "score": round(record.score, 4), "reasons": kind.reasons(record), **others}

    def summary(line: Any) -> dict[str, Any]:
        return {"class": kind.class_of(line.label), "records": line.records, "alerts": line.alerts}

    flagged = judged.filter(col("score") >= threshold)
    if at_once:
        flagged = rate_limit(flagged, kind.by, every=kind.every, at_once=at_once, time=kind.time).uid("limit")
    write(flagged.map(alert, compiled=False), write_to, "alerts")
    outcomes = judged.select(label=col(kind.label), alert=col("score") >= threshold).key_by("label")
    classes = outcomes.aggregate(records=count(), alerts=sum_of("alert")).uid("summary").map(summary, compiled=False)
    write(classes, write_to, "summary")


def _report(result: JobResult, **settings: Any) -> str:
    if settings["sink"]:
        return where_results_are(settings["sink"])
    from_file = bool(settings["input"] or settings["source"]) or settings["kind"] != CARDS.name
    return report(settings["output"], settings["kind"], result, from_file=from_file)


APP = App("fraud", build, "judges card payments, clicks or network connections as they come", report=_report)
"""The app."""
