"""A plan as text."""

from __future__ import annotations

from streamcore.runtime.spec import JobSpec


def describe(job: JobSpec) -> str:
    """The plan: each vertex with its operators (and the user's lines), each edge with its partitioning."""
    lines = [f"job {job.name}: {len(job.vertices)} vertices, {len(job.subtasks())} subtasks"]
    for vertex in job.vertices:
        loop = f", in loop {vertex.loop}" if vertex.loop is not None else ""
        splits = f", {len(vertex.splits)} splits" if vertex.splits is not None else ""
        lines.append(f"[{vertex.id}] {vertex.name}  x{vertex.parallelism}{splits}{loop}")
        for spec in vertex.operators:
            lines.append(f"      {spec.uid}  {spec.location}")
        for edge in job.edges:
            if edge.source == vertex.id:
                tag = f" side output {edge.tag!r}" if edge.tag else ""
                back = " (back edge)" if edge.feedback else ""
                arrow = "↩" if edge.feedback else "→"
                form = f"  {edge.schema}" if edge.schema else ""
                lines.append(f"    {arrow} [{edge.target}] {edge.partitioning}{tag}{back}{form}")
    return "\n".join(lines)
