"""Users' functions of one record, compiled to loops over columns, with the results of the interpreter.

`compile_map` and its sisters compile (or load from the cache); `MapLoop` and its sisters run.
"""
