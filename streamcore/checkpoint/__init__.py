"""Snapshots: the pure protocol, their storage, their format, and what to restore."""
