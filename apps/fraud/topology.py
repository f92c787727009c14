"""Judges records as they come, and writes an alert for each that is likely fraud, with the reasons.

Output, as JSON lines: `alerts/` (`{"kind", "score", "reasons", ...}` and the fields of the judged record) and, at the
end of input, `summary/` (`{"class", "records", "alerts"}`: a line for each kind of record that the data knows of).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamcore import App, DataStream, JobResult, StreamcoreError, StreamEnvironment, col, count, sum_of
from streamcore.apps.fraud import cards, clicks, intrusion
from streamcore.apps.fraud.planted import KINDS, TRANSACTION, PlantedTransactions
from streamcore.apps.fraud.report import report
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource


class FraudError(StreamcoreError):
    """The app can't be built like that."""


def judged_payments(
    env: StreamEnvironment, path: str, number: int, cards_in_all: int, rate: float
) -> DataStream[cards.Judged]:
    """Payments of a CSV file, or planted ones, judged in order for each card."""
    if path:
        payments = env.source(CsvSource(path, TRANSACTION), name="payments")
    else:
        planted = GeneratorSource(PlantedTransactions(cards_in_all), number, rate or None, schema=TRANSACTION)
        payments = env.source(planted, name="payments")
    return payments.key_by("card").scan(cards.Card(), cards.judge, returns=cards.Judged).uid("judge")


def build(
    env: StreamEnvironment,
    *,
    kind: str = "cards",
    input: str = "",  # noqa: A002 - the name of the setting in every app
    output: str = "out/fraud",
    threshold: float = 0.5,
    payments: int = 400_000,
    cards_in_all: int = 5000,
    rate: float = 0.0,
) -> None:
    """Builds the topology of one kind of fraud: `cards`, `clicks` or `intrusion`."""
    judged: DataStream[Any]
    if kind == "cards":
        judged = judged_payments(env, input, payments, cards_in_all, rate)
        add_results(judged, kind, cards.reasons, "fraud", _payment, threshold, output)
    elif kind == "clicks":
        if not input:
            raise FraudError("no click log ships with streamcore", hint="name one: --set input=clicks.csv.gz")
        judged = clicks.judged_clicks(env, input)
        add_results(judged, kind, clicks.reasons, "downloaded", _click, threshold, output)
    elif kind == "intrusion":
        judged = intrusion.judged_connections(env, input or str(intrusion.SHIPPED))
        add_results(judged, kind, intrusion.reasons, "label", str, threshold, output)
    else:
        raise FraudError(f"there is no kind {kind!r} of fraud", hint="--set kind=cards, clicks or intrusion")


def add_results(
    judged: DataStream[Any],
    kind: str,
    reasons: Callable[[Any], list[str]],
    label: str,
    name: Callable[[Any], str],
    threshold: float,
    output: str,
) -> None:
    """Adds what leads from judged records to the results; `name` says in words what the field `label` says."""

    def alert(record: Any) -> dict[str, Any]:
        return {"kind": kind, "score": round(record.score, 4), "reasons": reasons(record), **_others(record)}

    def summary(line: Any) -> dict[str, Any]:
        return {"class": name(line.label), "records": line.records, "alerts": line.alerts}

    flagged = judged.filter(col("score") >= threshold).map(alert, compiled=False)
    flagged.sink(FileSink(f"{output}/alerts", if_exists="replace")).uid("alerts-sink")
    outcomes = judged.select(label=col(label), alert=col("score") >= threshold).key_by("label")
    classes = outcomes.aggregate(records=count(), alerts=sum_of("alert")).uid("summary").map(summary, compiled=False)
    classes.sink(FileSink(f"{output}/summary", if_exists="replace")).uid("summary-sink")


def _others(record: Any) -> dict[str, Any]:
    return {name: value for name, value in record._asdict().items() if name != "score"}


def _payment(fraud: int) -> str:
    return KINDS[fraud] if fraud >= 0 else "unknown"


def _click(downloaded: int) -> str:
    return "download" if downloaded else "no download"


def _report(result: JobResult, **settings: Any) -> str:
    return report(settings["output"], settings["kind"], result)


APP = App("fraud", build, "judges card payments, clicks or network connections as they come", report=_report)
"""The app."""
