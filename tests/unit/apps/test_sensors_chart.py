"""The picture of a series: well-formed, with what belongs in it, and nothing drawn where nothing is known."""

import xml.etree.ElementTree as ET

import pytest

from streamcore.apps.sensors.chart import _dates, _steps, page

HOUR = 3_600_000


def svgs(text):
    """The pictures in the page, without those of the legend."""
    parts = text.split("<svg")[1:]
    found = [ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in parts]  # noqa: S314 - our own text
    return [svg for svg in found if svg.get("role") == "img"]


def record(time, value, expected=None, spread=None):
    return {"time": time, "fahrenheit": value, "expected": expected, "spread": spread}


def marks(svg, name):
    return [element for element in svg if element.get("class") == name]


def test_series_band_alerts_and_labels():
    records = [record(n * HOUR, 70.0 + n % 5, 70.0, 2.0 if n > 20 else None) for n in range(500)]
    records[300] = record(300 * HOUR, 95.0, 70.0, 2.0)
    (svg,) = svgs(page({"a<b": records}, {"a<b": [(290 * HOUR, 310 * HOUR), (900 * HOUR, 950 * HOUR)]}, 3.0))
    assert svg.get("aria-label") == "a<b"
    assert len(marks(svg, "label")) == 1  # the other is after the last reading
    (alert,) = marks(svg, "alert")
    assert "95.0" in alert[0].text
    label = marks(svg, "label")[0]
    assert float(label.get("x")) < float(alert.get("cx")) < float(label.get("x")) + float(label.get("width"))
    for name in ("series", "ewma", "band"):
        assert marks(svg, name)[0].get("d").startswith("M")
    assert len(marks(svg, "grid")) >= 6


def test_nothing_is_drawn_over_a_gap():
    times = [*range(100), *range(1000, 1100)]
    (svg,) = svgs(page({"a": [record(n * HOUR, float(n % 7)) for n in times]}, {}, 3.0))
    assert marks(svg, "series")[0].get("d").count("M") == 2
    assert marks(svg, "ewma")[0].get("d") == marks(svg, "band")[0].get("d") == ""


@pytest.mark.parametrize("records", [[record(5, 1.0)], [record(5, 1.0), record(5, 1.0)]])
def test_hardly_any_readings(records):
    assert len(svgs(page({"a": records}, {"a": [(0, 10)]}, 3.0))) == 1


def test_no_reading_at_all():
    assert svgs(page({}, {}, 3.0)) == []


@pytest.mark.parametrize(
    ("span_ms", "first"),
    [(10_000, "00:00:00"), (600_000, "00:00"), (8 * HOUR, "01 Jan 00:00"), (60 * 24 * HOUR, "01 Jan"),
     (400 * 24 * HOUR, "1970"), (30 * 365 * 24 * HOUR, "1970")],
)  # fmt: skip
def test_dates_are_round_and_neither_few_nor_many(span_ms, first):
    dates = _dates(0.0, float(span_ms))
    assert dates[0] == (0.0, first)
    assert 4 <= len(dates) <= 13
    assert len({text for _, text in dates}) == len(dates)


def test_steps_are_round_numbers():
    assert _steps(-3.2, 21.0) == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert _steps(0.011, 0.049) == [0.02, 0.03, 0.04]
