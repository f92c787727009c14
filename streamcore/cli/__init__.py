"""The command line: `streamcore run | apps | describe | checkpoints`."""
