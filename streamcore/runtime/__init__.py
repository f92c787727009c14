"""The data plane: subtasks, channels, alignment, operators, and the worker that hosts them."""
