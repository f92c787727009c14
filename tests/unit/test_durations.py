"""Durations as users write them."""

import pytest

from streamcore import days, hours, milliseconds, minutes, seconds
from streamcore.errors import UsageError
from streamcore.time import parse_duration


def test_all_are_seconds():
    assert (milliseconds(1500), seconds(2), minutes(1.5), hours(2), days(1)) == (1.5, 2.0, 90.0, 7200.0, 86_400.0)


@pytest.mark.parametrize(
    ("text", "expected"), [("5ms", 0.005), ("1s", 1.0), ("1.5 min", 90.0), ("2h", 7200.0), ("0", 0.0)]
)
def test_as_text(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5 parsecs", "-1s", "s"])
def test_what_is_no_duration(text):
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)
