"""From the logical graph to what will run: checked, chained, cut into subtasks. Pure functions."""
