"""What options of several commands have in common: how their text is read."""

from __future__ import annotations

import click

from streamcore.errors import UsageError
from streamcore.time import parse_duration


def read_duration(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """Seconds, from `5ms` or `1s`.

    Raises:
        BadParameter: it is no duration.
    """
    try:
        return parse_duration(text)
    except UsageError as error:
        raise click.BadParameter(f"{error.message}: {error.hint}", ctx, param) from error


def read_interval(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """Seconds above 0.

    Raises:
        BadParameter: it is no duration, or none above 0.
    """
    interval_s = read_duration(ctx, param, text)
    if interval_s <= 0:
        raise click.BadParameter("it must be above 0", ctx, param)
    return interval_s


def read_optional_duration(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """As `read_duration`; None where nothing was given.

    Raises:
        BadParameter: it is no duration.
    """
    return None if text is None else read_duration(ctx, param, text)
