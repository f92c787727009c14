"""The edges of a plan as one subtask sees them: its channels in the order of their numbers, and the edges' names."""

from __future__ import annotations

from streamcore.runtime.spec import EdgeSpec, JobSpec, OperatorSpec, Route, VertexSpec


def incoming(job: JobSpec, vertex: int, index: int) -> list[tuple[EdgeSpec, int]]:
    """The input channels of a subtask: (edge, sending subtask); a channel's number is its place here."""
    return [
        (edge, sender)
        for edge in job.edges
        if edge.target == vertex
        for sender in _peers(job, edge, edge.source, index)
    ]


def outgoing(job: JobSpec, vertex: int) -> list[EdgeSpec]:
    """The edges that leave a vertex."""
    return [edge for edge in job.edges if edge.source == vertex]


def receivers(job: JobSpec, edge: EdgeSpec, index: int) -> list[int]:
    """The subtasks that subtask `index` sends to over an edge of its own."""
    return _peers(job, edge, edge.target, index)


def parallelism_of(job: JobSpec, vertex: int) -> int:
    """How many subtasks a vertex has."""
    return next(spec.parallelism for spec in job.vertices if spec.id == vertex)


def edge_name(job: JobSpec, edge: EdgeSpec) -> str:
    """The name of an edge in snapshots: by the uids at its ends, since vertices get other numbers when another
    parallelism cuts the chains elsewhere; of several edges with the same ends, the later ones have a number."""
    same = [_ends(job, other) for other in job.edges if other.id < edge.id].count(name := _ends(job, edge))
    return f"{name}#{same}" if same else name


def chain_links(vertex: VertexSpec) -> dict[str, int]:
    """What the edges inside of a chain would be called if they led from chain to chain → the place in the chain that
    they lead to."""
    operators = vertex.operators
    return {
        _name(operators[spec.parent], spec.tag, spec, 0): place
        for place, spec in enumerate(operators)
        if spec.parent >= 0
    }


def _ends(job: JobSpec, edge: EdgeSpec) -> str:
    operators = {vertex.id: vertex.operators for vertex in job.vertices}
    return _name(operators[edge.source][edge.operator], edge.tag, operators[edge.target][0], edge.port)


def _name(source: OperatorSpec, tag: str | None, target: OperatorSpec, port: int) -> str:
    return f"{source.uid}.{tag or ''}>{target.uid}.{port}"


def _peers(job: JobSpec, edge: EdgeSpec, vertex: int, index: int) -> list[int]:
    if edge.partitioning.route is Route.FORWARD:
        return [index]
    return list(range(parallelism_of(job, vertex)))
