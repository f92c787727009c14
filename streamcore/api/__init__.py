"""What users write: environment, streams, loops, functions."""
