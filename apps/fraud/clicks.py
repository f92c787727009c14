"""Clicks on ads: too many from one address, or the same click again and again, seldom come from customers.

Nobody has labelled the clicks; what can be seen is whether an app was downloaded after one (`is_attributed`). Clicks
that are flagged rightly are hardly ever followed by a download.
"""

from __future__ import annotations

import datetime
import math
from typing import Any, NamedTuple

from streamcore import Context, DataStream, MapState, ProcessFunction, Schema, StreamEnvironment, ValueState
from streamcore.apps.conventions import is_topics, messages
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


class ClickMessage(NamedTuple):
    """What is read of a message; its time in milliseconds is the message's own."""

    time: int
    ip: int
    app: int
    device: int
    os: int
    is_attributed: int


def as_message(click: Any) -> Timed:
    """The click of a message."""
    return Timed(*click)


def timed(click: Any) -> Timed:
    """The click with its time in milliseconds; times without a zone are UTC."""
    time = click.click_time.replace(tzinfo=datetime.UTC)
    return Timed(int(time.timestamp()) * 1000, click.ip, click.app, click.device, click.os, click.is_attributed)


class JudgeClicks(ProcessFunction[Timed, Judged]):
    """Judges clicks by those of their address, and of the same device on the same app. Keyed by address alone: by more
    fields, the clicks of an address would pass through several subtasks and lose their order."""

    def open(self, ctx: Context[Judged]) -> None:
        self._address = ctx.state(ValueState("address", Rate()))
        devices: MapState[tuple[int, int, int], Rate] = MapState("devices")
        self._devices = ctx.state(devices)

    def process(self, record: Timed, ctx: Context[Judged]) -> None:
        device = (record.app, record.device, record.os)
        repeats = faded(self._devices.get(device) or Rate(), record.time)
        velocity = faded(self._address.get(), record.time) + 1.0
        self._devices.put(device, Rate(repeats + 1.0, record.time))
        self._address.set(Rate(velocity, record.time))
        score = 1.0 - honest(velocity, repeats)
        ctx.emit(Judged(record.time, record.ip, record.app, velocity, repeats, score, record.downloaded))


def faded(rate: Rate, time: int) -> float:
    """What the clicks of a rate count at a time in milliseconds."""
    return rate.clicks * math.exp2(-max(time - rate.time, 0) / HOUR_MS)


def honest(velocity: float, repeats: float) -> float:
    """About how sure one may be that a click is honest, from 0 to 1."""
    by_velocity = 1.0 / (1.0 + math.exp(2.0 * min(velocity - MOST_AN_HOUR, 20.0)))
    return by_velocity / (1.0 + math.exp(4.0 * min(repeats - MOST_REPEATS, 10.0)))


def judged_clicks(env: StreamEnvironment, path: str) -> tuple[DataStream[Judged], DataStream[Any]]:
    """The clicks of a CSV file (gzip as it is) or of topics, judged in order for each address; and what could not be
    read."""
    if is_topics(path):
        log, as_timed = env.source(messages(path, ClickMessage, timestamp="time"), name="clicks"), as_message
    else:
        log, as_timed = env.source(CsvSource(path, CLICK, on_error="side_output"), name="clicks"), timed
    # one subtask: dealt out over several, the clicks of an address would lose their order
    clicks = log.map(as_timed, compiled=False).parallelism(1)
    return clicks.key_by("ip").process(JudgeClicks(), returns=Judged).name("judge").uid("judge"), log.bad_records()


def reasons(judged: Judged) -> list[str]:
    """Why a click was given its score, in words."""
    found = []
    if judged.velocity > MOST_AN_HOUR:
        found.append(f"velocity: {judged.velocity:.1f} clicks of the address within hours")
    if judged.repeats > MOST_REPEATS:
        found.append(f"repeats: the same device has clicked on app {judged.app} {judged.repeats:.1f} times before")
    return found or ["several signs, none alone"]
