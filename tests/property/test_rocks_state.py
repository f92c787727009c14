"""State in RocksDB is what state in memory is: whatever is done with it, through snapshots, restores and rescaling."""

from __future__ import annotations

import contextlib
import enum
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.state.backends import RocksDB, open_backend
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.key_groups import group_range
from streamcore.kernels.hashing import hash_key
from streamcore.state.store import KeyedStore
from streamcore.testing.memory import MemoryStorage
from tests.saved_state import saved_store
