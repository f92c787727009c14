"""A module of the user's that changes between two runs of a job."""

from __future__ import annotations

import sys
import types

HEADER = """
import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple
import msgspec
import numpy as np
"""


def install(monkeypatch, source, name="shop"):
    """Makes a module of the source and loads it under the name, in the place of what was there."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(HEADER + source, f"<{name}>", "exec"), vars(module))
    return module
