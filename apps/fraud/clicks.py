"""Clicks on ads: too many from one address, or the same click again and again, seldom come from customers.

Nobody has labelled the clicks; what can be seen is whether an app was downloaded after one (`is_attributed`). Clicks
that are flagged rightly are hardly ever followed by a download.
"""

from __future__ import annotations

import datetime
import math
from typing import Any, NamedTuple

from streamcore import DataStream, Schema, StreamEnvironment
from streamcore.connectors.csv_source import CsvSource

CLICK = Schema.of(click_time=datetime.datetime, ip=int, app=int, device=int, os=int, channel=int, is_attributed=int)
"""As in the click log of TalkingData: addresses, apps, devices, operating systems and channels are numbers."""

HOUR_MS = 3_600_000
MOST_AN_HOUR = 4.0
MOST_REPEATS = 2.0


class Rate(NamedTuple):
    """Clicks that each count half after an hour, as of the last one, and when that was (milliseconds)."""

    clicks: float = 0.0
    time: int = 0


class Counted(NamedTuple):
    """A click, with the clicks of the same device on the same app lately."""

    time: int
    ip: int
    app: int
    repeats: float
    downloaded: int


class Judged(NamedTuple):
    """A click and what speaks against it: the clicks of its address in the last hours, and its repeats."""

    time: int
    ip: int
    app: int
    velocity: float
    repeats: float
    score: float
    downloaded: int


class Timed(NamedTuple):
    """A click, with its time in milliseconds."""

    time: int
    ip: int
    app: int
    device: int
    os: int
    downloaded: int


def timed(click: Any) -> Timed:
    """The click with its time in milliseconds; times without a zone are UTC."""
    time = click.click_time.replace(tzinfo=datetime.UTC)
    return Timed(int(time.timestamp()) * 1000, click.ip, click.app, click.device, click.os, click.is_attributed)


def count_repeats(rate: Rate, click: Any) -> tuple[Rate, Counted]:
    """How often this device has clicked on this app lately."""
    clicks = rate.clicks * 0.5 ** (max(click.time - rate.time, 0) / HOUR_MS)
    return Rate(clicks + 1.0, click.time), Counted(click.time, click.ip, click.app, clicks, click.downloaded)


def judge(rate: Rate, click: Any) -> tuple[Rate, Judged]:
    """The click judged by the clicks of its address."""
    clicks = rate.clicks * 0.5 ** (max(click.time - rate.time, 0) / HOUR_MS) + 1.0
    honest = (
        1.0
        / (1.0 + math.exp(2.0 * min(clicks - MOST_AN_HOUR, 20.0)))
        / (1.0 + math.exp(4.0 * min(click.repeats - MOST_REPEATS, 10.0)))
    )
    judged = Judged(click.time, click.ip, click.app, clicks, click.repeats, 1.0 - honest, click.downloaded)
    return Rate(clicks, click.time), judged


def judged_clicks(env: StreamEnvironment, path: str) -> tuple[DataStream[Judged], DataStream[Any]]:
    """The clicks of a CSV file (gzip as it is), judged in order for each address; and what could not be read."""
    log = env.source(CsvSource(path, CLICK, on_error="side_output"), name="clicks")
    clicks = log.map(timed, compiled=False)
    counted = clicks.key_by(("ip", "app", "device", "os")).scan(Rate(), count_repeats, returns=Counted).uid("repeats")
    return counted.key_by("ip").scan(Rate(), judge, returns=Judged).uid("judge"), log.bad_records()


def reasons(judged: Judged) -> list[str]:
    """Why a click was given its score, in words."""
    found = []
    if judged.velocity > MOST_AN_HOUR:
        found.append(f"velocity: {judged.velocity:.1f} clicks of the address within hours")
    if judged.repeats > MOST_REPEATS:
        found.append(f"repeats: the same device has clicked on app {judged.app} {judged.repeats:.1f} times before")
    return found or ["several signs, none alone"]
