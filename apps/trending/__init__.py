"""Trending keywords and pages."""
