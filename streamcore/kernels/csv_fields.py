"""Plain CSV records to arrays in one pass: no quotes, and decimals whose digits are exact in a double."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel

SKIP, INTEGER, NATURAL, DECIMAL, TEXT, TEXT_OR_EMPTY = range(6)
"""What a field of the file is read as; a NATURAL has no sign, and a TEXT must not be empty."""

_LF, _CR, _MINUS, _POINT, _ZERO = b"\n\r-.0"
_ONE = np.uint64(1)
_MAX_DIGITS = 18  # 10**18 - 1 fits an int64
_MAX_EXACT = 1 << 53  # whole numbers up to this one are exact in a double
_POWERS = 10.0 ** np.arange(_MAX_DIGITS + 1)  # exact: 5**22 < 2**53


@kernel
def parse_fields(
    data: Any, delimiter: Any, kinds: Any, places: Any, integers: Any, decimals: Any, offsets: Any, texts: Any
) -> Any:
    """Reads records of len(kinds) fields that end in LF or CRLF; blank lines are left out.

    A decimal is its digits divided by a power of ten, both of them exact, so the quotient is the double
    nearest to it (Clinger, How to read floating point numbers accurately, 1990).

    Args:
        data: uint8 (n,), the last one a line feed; no quotes.
        kinds, places: int64 (fields,): what a field is read as, and in which row of that kind's output.
        integers: int64 (., m) for m at least the number of line feeds. decimals: float64 (., m).
        offsets, texts: int32 (., m + 1) and uint8 (., n): text i is texts[offsets[i] : offsets[i + 1]].

    Returns:
        (the number of records, the bytes of all texts or-ed together), or (-1, …) if something is unusual: an
        exponent, a space, more than 18 digits or 2**53, no digits, another line end, another number of fields.
    """
    count = 0
    at = np.uint64(0)  # unsigned, so that no index needs a check for being negative
    combined = np.uint8(0)
    last = len(kinds) - 1
    offsets[:, 0] = 0
    while at < len(data):
        if data[at] == _LF or (data[at] == _CR and data[at + _ONE] == _LF):
            at += _ONE if data[at] == _LF else _ONE + _ONE
            continue
        for field in range(last + 1):
            kind, place = kinds[field], places[field]
            if kind == SKIP:
                while not _is_end(data[at], delimiter):
                    at += _ONE
            elif kind >= TEXT:
                end = begin = offsets[place, count]
                while not _is_end(data[at], delimiter):
                    texts[place, end] = data[at]
                    combined |= data[at]
                    end += 1
                    at += _ONE
                if end == begin and kind == TEXT:
                    return -1, combined
                offsets[place, count + 1] = end
            else:
                is_negative = data[at] == _MINUS and kind != NATURAL
                begin = at + np.uint64(is_negative)
                number, at = _digits(data, begin, np.int64(0))
                whole = point = at
                if kind == DECIMAL and data[at] == _POINT:
                    number, at = _digits(data, at + _ONE, number)
                    point += _ONE
                if whole == begin or (point > whole and at == point) or at - begin > _MAX_DIGITS:
                    return -1, combined
                if kind != DECIMAL:
                    integers[place, count] = -number if is_negative else number
                elif number > _MAX_EXACT:
                    return -1, combined
                else:
                    value = np.float64(number) / _POWERS[at - point]
                    decimals[place, count] = -value if is_negative else value
            if field == last and data[at] == _CR:
                at += _ONE
            if data[at] != (delimiter if field < last else _LF):
                return -1, combined
            at += _ONE
        count += 1
    return count, combined


@kernel
def _is_end(byte: Any, delimiter: Any) -> Any:
    return byte in (delimiter, _LF, _CR)


@kernel
def _digits(data: Any, at: Any, number: Any) -> Any:
    """The number with the digits from `at` on added to it, and where they end; too many of them overflow."""
    digit = np.uint8(data[at] - _ZERO)
    while digit < 10:
        number = number * 10 + digit
        at += _ONE
        digit = np.uint8(data[at] - _ZERO)
    return number, at


@kernel
def parse_lines(data: Any, offsets: Any, texts: Any) -> Any:
    """Reads lines that are one text each; blank ones are left out. Without branches, since the length of the
    next word is what a processor can't foresee: three times as fast on short words as `parse_fields`.

    Args:
        data: uint8 (n,), the last one a line feed; no quotes, no delimiter, no carriage return.
        offsets, texts: int32 (m + 1,) for m at least the number of line feeds, and uint8 (n,).

    Returns:
        (the number of texts, all their bytes or-ed together)
    """
    count = begin = end = 0
    combined = np.uint8(0)
    offsets[0] = 0
    for at in range(len(data)):
        byte = data[at]
        is_end = byte == _LF
        texts[end] = byte
        combined |= byte
        end += not is_end
        offsets[count + 1] = end
        count += is_end and end > begin
        begin = end if is_end else begin
    return count, combined
