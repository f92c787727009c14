"""Text into words, a batch of lines at a time: one pass over the bytes of the column, no Python object per word."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, Schema, kernel

LINE = "line"
WORDS = Schema.of(word=str)

_LOWER = np.zeros(256, np.uint8)
"""Byte -> the letter it is in lower case, or 0 where a word ends."""
for _letter in range(ord("a"), ord("z") + 1):
    _LOWER[_letter] = _LOWER[_letter - 32] = _letter


def words(lines: Columns) -> Columns:
    """The words of the lines in order: what `re.findall("[a-z]+", line.lower())` finds in each.

    Args:
        lines: text in a column `line`.

    Returns:
        A column `word`, text.
    """
    text: pa.StringArray = lines[LINE]
    if len(text) == 0:
        return Columns(WORDS, {"word": pa.array([], pa.string())})
    _, offsets, data = text.buffers()
    starts = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    content = np.frombuffer(data if data is not None and data.size else b"", np.uint8)
    letters, ends = _tokenise(starts, content, _LOWER)
    found = pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(letters))
    return Columns(WORDS, {"word": found})


def words_of(text: str) -> list[str]:
    """The same of one text, for comparison and tests."""
    return re.findall("[a-z]+", text.lower())


@kernel
def _tokenise(starts: Any, content: Any, lower: Any) -> Any:
    """(letters of all words, end of each word after a 0): uint8 (m,), int32 (words + 1,).

    Two characters beyond ASCII have an ASCII letter in their lower case: the Kelvin sign (E2 84 AA) is a k, and the
    dotted capital I (C4 B0) an i and a combining dot, which ends the word.
    """
    size = starts[-1] - starts[0]
    letters = np.empty(size, np.uint8)
    ends = np.empty(size + 1, np.int32)
    ends[0] = 0
    n = count = 0
    for line in range(len(starts) - 1):
        at, stop = starts[line], starts[line + 1]
        while at < stop:
            byte = content[at]
            letter = lower[byte]
            at += 1
            is_end = False
            if byte == 0xE2 and at + 1 < stop and content[at] == 0x84 and content[at + 1] == 0xAA:
                letter = np.uint8(107)
                at += 2
            elif byte == 0xC4 and at < stop and content[at] == 0xB0:
                letter = np.uint8(105)
                at += 1
                is_end = True
            if letter != 0:
                letters[n] = letter
                n += 1
            else:
                is_end = True
            if is_end and n > ends[count]:
                count += 1
                ends[count] = n
        if n > ends[count]:
            count += 1
            ends[count] = n
    return letters[:n].copy(), ends[: count + 1].copy()
