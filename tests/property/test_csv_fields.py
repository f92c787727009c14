"""The compiled CSV parser against pyarrow's, to the bit; and what it leaves to pyarrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Field, Schema
from streamcore.connectors.csv_fields import FieldParser

TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "int8": pa.int8(),
    "uint8": pa.uint8(),
    "uint64": pa.uint64(),
    "double": pa.float64(),
    "string": pa.string(),
}
INTEGERS = st.integers(-(2**64), 2**64).map(str) | st.integers(-300, 300).map(str)
DECIMALS = (
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**17), max_value=10**17, places=2).map(str)
    | st.from_regex(r"-?[0-9]{1,19}(\.[0-9]{1,19})?", fullmatch=True)
    | st.floats(width=64).map(repr)
)
ODD = st.sampled_from(
    ["", "-", "-0", "-0.0", "007", ".5", "5.", "1e5", " 7", "7 ", "+3", "0x1F", "nan", "9007199254740993"]
)
TEXTS = st.text(st.sampled_from("ab 1.-é\u2028\ufeff\x00"), max_size=5)
LINE_END = st.sampled_from(["\n", "\r\n"])


def parsed(data, schema, columns=None, width=None, delimiter=","):
    columns = list(range(len(schema.fields))) if columns is None else columns
    parser = FieldParser.make(schema, columns, width or len(columns), delimiter)
    assert parser is not None
    return parser.parse(data, data.count(b"\n"))


def by_pyarrow(data, schema, names, delimiter=","):
    """The same records by pyarrow alone, or None if a value is malformed or missing where it can't be."""
    try:
        table = pacsv.read_csv(
            pa.BufferReader(b"\n" + data),
            pacsv.ReadOptions(column_names=names, use_threads=False),
            pacsv.ParseOptions(delimiter=delimiter),
            pacsv.ConvertOptions(
                column_types={field.name: field.type for field in schema.fields},
                null_values=[""],
                strings_can_be_null=True,
                include_columns=list(schema.names),
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = {}
    for field in schema.fields:
        column = table.column(field.name).combine_chunks()
        if column.null_count and not field.nullable:
            if not pa.types.is_string(field.type):
                return None
            column = column.fill_null("")
        columns[field.name] = column
    return columns


def same_bits(array, expected):
    if isinstance(array, np.ndarray):
        array = pa.array(array)
    assert array.type == expected.type
    if pa.types.is_float64(array.type):  # -0.0 equals 0.0, so the bits are compared
        array, expected = array.view(pa.int64()), expected.view(pa.int64())
    assert array.to_pylist() == expected.to_pylist()


@settings(deadline=None, max_examples=500)
@given(data=st.data(), line_end=LINE_END, delimiter=st.sampled_from([",", ";", "\t", "|"]))
def test_what_is_parsed_is_what_pyarrow_parses(data, line_end, delimiter):
    names = data.draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4))
    nullable = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    cells = {"double": DECIMALS | ODD, "string": TEXTS}
    record = st.tuples(*(cells.get(name, INTEGERS | ODD) for name in names)).map(delimiter.join)
    records = data.draw(st.lists(record | st.just(""), min_size=1, max_size=6))
    fields = [pa.field(f"f{i}", TYPES[name], n) for i, (name, n) in enumerate(zip(names, nullable, strict=True))]
    schema = Schema(tuple(Field(field.name, field.type, field.nullable) for field in fields))
    text = "".join(record + line_end for record in records).encode()
    columns = parsed(text, schema, delimiter=delimiter)
    if columns is not None:
        expected = by_pyarrow(text, schema, [field.name for field in fields], delimiter)
        assert expected is not None, "a malformed value was taken"
        for name, array in columns.arrays.items():
            same_bits(array, expected[name])


@settings(deadline=None, max_examples=300)
@given(
    records=st.lists(
        st.tuples(
            st.integers(-(10**17), 10**17),
            st.text(st.characters(codec="utf-8", exclude_characters=',"\r\n'), max_size=5),
            st.integers(-(2**53), 2**53),
            st.integers(0, 15),
            st.integers(0, 255),
        ),
        max_size=8,
    ),
    line_end=LINE_END,
)
def test_the_usual_forms_are_not_left_to_pyarrow(records, line_end):
    rows, lines = [], []
    for integer, text, digits, scale, small in records:
        sign, whole = "-" * (digits < 0), str(abs(digits)).zfill(scale + 1)
        number = sign + (f"{whole[:-scale]}.{whole[-scale:]}" if scale else whole)
        lines += [f"{integer},{text},{number},not read,{small}{line_end}", line_end]
        rows.append((integer, text, float(number), small))
    schema = Schema.of(n=int, text=str, x=float, small="u1")
    data = "".join(lines).encode() or b"\n"
    columns = parsed(data, schema, [0, 1, 2, 4], 5)
    assert columns is not None
    assert [tuple(row) for row in columns.to_rows()] == rows


@settings(deadline=None, max_examples=200)
@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters='\t"\r\n'), max_size=9), min_size=1))
def test_lines_of_one_text(words):
    data = "".join(word + "\n" for word in words).encode()
    columns = parsed(data, Schema.of(word=str), delimiter="\t")
    assert columns["word"].to_pylist() == [word for word in words if word]
    columns["word"].validate(full=True)


@pytest.mark.parametrize(
    "data",
    [
        b'"a",1\n',
        b"a,1,2\n",
        b"a\n",
        b"a,\n",
        b"a,1\rb,2\n",
        b"a,9223372036854775808\n",
        b"a,1234567890123456789\n",
        b"\xff,1\n",
        b"a\xc3,1\n\xa9b,2\n",
    ],
)
def test_what_is_left_to_pyarrow(data):
    schema = Schema.of(word=str, n=int)
    assert parsed(b"x,1\n", schema) is not None
    assert parsed(data, schema) is None


@pytest.mark.parametrize(
    ("type_", "usual", "unusual"),
    [
        (int, ["0", "-0", "007", "-999999999999999999"], ["-", "+3", " 7", "7 ", "0x1F", "1.5", "9" * 19]),
        ("u1", ["0", "255"], ["-0", "-1", "256"]),
        ("i1", ["-128", "127"], ["-129", "128"]),
        (float, ["3", "-0.0", "9007199254740992"], ["9007199254740993", "90071992547409.93", "5.", ".5", "1e5", "nan"]),
    ],
)
def test_numbers_that_are_left_to_pyarrow(type_, usual, unusual):
    schema = Schema.of(n=type_)
    assert all(parsed(f"1\n{value}\n".encode(), schema) is not None for value in usual)
    assert all(parsed(f"1\n{value}\n".encode(), schema) is None for value in unusual)


@pytest.mark.parametrize("data", [b'"a"\n', b"a,b\n", b"a\r\nb\n", b"\xff\n", b"a\xc3\n\xa9b\n"])
def test_lines_that_are_left_to_pyarrow(data):
    assert parsed(data, Schema.of(word=str)) is None


@pytest.mark.parametrize(("delimiter", "type_"), [("1", int), (".", float), ("-", int), (",", bool), (",", "f4")])
def test_layouts_that_are_left_to_pyarrow(delimiter, type_):
    assert FieldParser.make(Schema.of(n=type_), [0], 2, delimiter) is None


def test_a_file_column_that_two_fields_want_is_left_to_pyarrow():
    assert FieldParser.make(Schema.of(a=int, b=int), [0, 0], 2, ",") is None
