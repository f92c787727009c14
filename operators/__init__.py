"""Reusable stateful operators, built on the public API alone."""
