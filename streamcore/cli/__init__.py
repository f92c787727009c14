"""The command line: `streamcore run | apps | describe | checkpoints | jobs | produce | savepoint | state | stop`."""
