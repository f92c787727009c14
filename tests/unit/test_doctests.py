"""The examples in docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import streamcore


def modules_with_examples():
    found = []
    for info in pkgutil.walk_packages(streamcore.__path__, "streamcore."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            if any(test.examples for test in doctest.DocTestFinder().find(module)):
                found.append(info.name)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
