"""Which worker runs which subtask."""

from __future__ import annotations

from streamcore.runtime.messages import Subtask
from streamcore.runtime.spec import JobSpec


def place(job: JobSpec, workers: int) -> dict[Subtask, int]:
    """Neighbouring subtasks of a vertex share a worker, and equal indices of equally wide vertices do too, so
    that forward edges stay inside; narrow vertices go round, so that not all of them meet on worker 0."""
    placement: dict[Subtask, int] = {}
    for vertex in job.vertices:
        for index in range(vertex.parallelism):
            spread = index * workers // vertex.parallelism
            offset = vertex.id if vertex.parallelism < workers else 0
            placement[vertex.id, index] = (spread + offset) % workers
    return placement
