"""Settings of an app: from text, by the signature of its function."""

from __future__ import annotations

import pytest

from streamcore import App, StreamcoreError, StreamEnvironment


def build(env: StreamEnvironment, *, name: str, size: int = 3, limit: int | None = None, fast: bool = False) -> None:
    """Four settings."""


def test_texts_become_values_of_the_declared_types():
    given = {"name": "a", "size": "1_000", "limit": "5", "fast": "yes"}
    assert App("a", build).settings(given) == {"name": "a", "size": 1000, "limit": 5, "fast": True}
    assert App("a", build).settings({"name": "b"}) == {"name": "b", "size": 3, "limit": None, "fast": False}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs the setting 'name'"),
        ({"name": "a", "sise": "3"}, "has no setting 'sise'"),
        ({"name": "a", "size": "big"}, "must be int, not 'big'"),
        ({"name": "a", "fast": "maybe"}, "must be bool, not 'maybe'"),
    ],
)
def test_wrong_settings_are_named(given, message):
    with pytest.raises(StreamcoreError, match=message):
        App("a", build).settings(given)


def test_a_setting_must_be_named_and_of_a_plain_type():
    def open_ended(env, **settings):
        """Takes anything."""

    def odd(env, *, when: complex = 1j):
        """Takes a number that text can't be."""

    with pytest.raises(StreamcoreError, match="settings can't be a setting"):
        App("a", open_ended).settings({})
    with pytest.raises(StreamcoreError, match="'when' is declared as complex"):
        App("a", odd).settings({"when": "1j"})
