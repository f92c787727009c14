from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamcore.connectors.web.answers import Verdict, blames_content, reason, retry_after_s, verdict

NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((200, 201, 202, 204, 299), Verdict.DONE),
        ((408, 425, 429, 502, 503, 504), Verdict.LATER),
        ((500, 501, 505, 599), Verdict.AGAIN),
        ((100, 199, 301, 302, 400, 401, 404, 410, 422, 600), Verdict.REFUSED),
    ],
)
def test_what_a_status_means(statuses, expected):
    assert {verdict(status) for status in statuses} == {expected}


def test_which_statuses_blame_what_was_sent():
    assert [status for status in range(200, 600) if blames_content(status)] == [400, 413, 422]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("0", 0),
        (" 120 ", 120),
        ("Wed, 01 May 2024 12:01:30 GMT", 90),
        ("Wed, 01 May 2024 12:01:30", 90),
        ("Wed, 01 May 2024 11:00:00 GMT", 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("²", 0),
    ],
)
def test_how_long_to_wait(header, seconds):
    assert retry_after_s(header, NOW) == seconds


def test_the_clock_is_asked_for_a_date():
    assert retry_after_s("Wed, 01 May 2224 12:01:30 GMT") > 1e9


def test_reasons():
    assert (reason(404), reason(599)) == ("404 Not Found", "599")
