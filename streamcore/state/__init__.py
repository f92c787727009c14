"""Keyed state: descriptors, key groups, and the heap and columnar backends."""
