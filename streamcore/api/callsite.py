"""Where in the user's code a call came from."""

from __future__ import annotations

import sys
from pathlib import Path

from streamcore.runtime.failures import is_engine_file


def user_line() -> str:
    """`file.py:12` of the nearest caller that isn't the engine."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_engine_file(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
