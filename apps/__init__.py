"""The apps: one folder each, with a topology, its data or generator, and a page that says what it shows."""
