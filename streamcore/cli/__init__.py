"""The command line: `streamcore run | apps | describe | checkpoints | jobs | savepoint | state | stop`."""
