"""The compiler: checked graph → chains → vertices, edges and loops, ready to deploy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from streamcore.connectors.base import Split
from streamcore.errors import TopologyError
from streamcore.plan.graph import Graph, Link, Node
from streamcore.plan.loops import strongly_connected
from streamcore.plan.two_stage import split_aggregates
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.spec import (
    EdgeSpec,
    Form,
    JobSpec,
    OperatorSpec,
    Partitioning,
    Route,
    Settings,
    VertexSpec,
)
from streamcore.state.key_groups import default_max_parallelism

FORWARD = Partitioning(Route.FORWARD)
REBALANCE = Partitioning(Route.REBALANCE)


@dataclass(slots=True)
class _Chain:
    head: Node
    nodes: list[Node] = field(default_factory=list)


def compile_graph(
    graph: Graph, name: str, settings: Settings, parallelism: int, max_parallelism: int | None = None
) -> JobSpec:
    """The plan of a graph at a parallelism.

    Raises:
        TopologyError: the graph can't run.
        ConnectorError: a source isn't there.
    """
    graph.check()
    splits = {node: tuple(node.source.splits()) for node in graph.nodes if node.source}
    nodes = [node for node in graph.nodes if not node.is_feedback]
    links = list(_resolve(graph))
    widths = _parallelism(nodes, links, splits, parallelism)
    for link in links:
        if _is_forward(link) and widths[link.source] != widths[link.target]:
            raise TopologyError(
                f"forward from {link.source} to {link.target} needs equal parallelism, "
                f"but it is {widths[link.source]} and {widths[link.target]}",
                hint="use rebalance() instead",
            )
    if settings.two_stage:
        nodes, links = split_aggregates(nodes, links, widths, graph.uid_of)
    chains = _chain(nodes, links, widths)
    place = {node: (i, chain.nodes.index(node)) for i, chain in enumerate(chains) for node in chain.nodes}
    key_groups = max_parallelism or default_max_parallelism(max(widths.values()))
    if key_groups < max(widths.values()):
        widest = max(widths, key=lambda node: widths[node])
        raise TopologyError(f"max_parallelism is {key_groups}, below the parallelism of {widest}, {widths[widest]}")
    vertices = [_vertex(graph, i, chain, links, place, widths, splits, key_groups) for i, chain in enumerate(chains)]
    edges = _edges(links, place, widths)
    loops = strongly_connected(len(vertices), [(edge.source, edge.target) for edge in edges])
    vertices = [replace(vertex, loop=loops.get(vertex.id)) for vertex in vertices]
    edges = [replace(e, loop=loops[e.source] if _is_inside(e, loops) else None) for e in edges]
    return JobSpec(name, tuple(vertices), tuple(edges), settings)


def _resolve(graph: Graph) -> Iterable[Link]:
    closing = {loop.placeholder: loop.closed_by for loop in graph.loops}
    for node in graph.nodes:
        for read in node.inputs:
            if read.node.is_feedback:
                for source, tag in closing[read.node]:
                    yield Link(source, tag, node, read.port, read.partitioning, feedback=True)
            else:
                yield Link(read.node, read.tag, node, read.port, read.partitioning, feedback=False)


def _parallelism(
    nodes: list[Node], links: list[Link], splits: dict[Node, tuple[Split, ...]], default: int
) -> dict[Node, int]:
    widths: dict[Node, int] = {}
    for node in nodes:
        if node.source is not None:
            widths[node] = node.parallelism or max(1, min(default, len(splits[node])))
        else:
            forward = [link.source for link in links if link.target is node and _is_forward(link) and not link.feedback]
            inherited = widths[forward[0]] if forward else default
            widths[node] = node.parallelism or inherited
    return widths


def _is_forward(link: Link) -> bool:
    return link.partitioning is not None and link.partitioning.route is Route.FORWARD


def _chain(nodes: list[Node], links: list[Link], widths: dict[Node, int]) -> list[_Chain]:
    """Puts a node into its producer's chain when all that it reads comes from there, on the same subtask."""
    chains: list[_Chain] = []
    chain_of: dict[Node, _Chain] = {}
    for node in nodes:
        reads = [link for link in links if link.target is node]
        joined = None
        if len(reads) == 1 and node.chainable:
            read = reads[0]
            direct = read.partitioning is None or _is_forward(read)
            if direct and not read.feedback and widths[read.source] == widths[node]:
                joined = chain_of[read.source]
        if joined is None:
            joined = _Chain(node)
            chains.append(joined)
        joined.nodes.append(node)
        chain_of[node] = joined
    return chains


def _vertex(
    graph: Graph,
    number: int,
    chain: _Chain,
    links: list[Link],
    place: dict[Node, tuple[int, int]],
    widths: dict[Node, int],
    splits: dict[Node, tuple[Split, ...]],
    key_groups: int,
) -> VertexSpec:
    specs: list[OperatorSpec] = []
    for node in chain.nodes:
        parent, tag = -1, None
        if node is not chain.head:
            read = next(link for link in links if link.target is node)
            parent, tag = place[read.source][1], read.tag
        make = node.make
        if node.source is not None:
            make = partial(SourceOperator, node.source, splits[node], node.watermarks)
        assert make is not None, f"operator {node} can't be made"
        forms = node.forms if node.source is None else (Form.ANY,)
        specs.append(
            OperatorSpec(
                uid=graph.uid_of(node),
                name=node.name,
                location=node.location,
                make=make,
                forms=forms,
                schemas=node.schemas,
                parent=parent,
                tag=tag,
                prepare=node.prepare,
                stateless=node.stateless,
                place=node.id,
                has_made_up_uid=graph.nodes[node.id].uid is None,
            )
        )
    title = " → ".join(node.name for node in chain.nodes)
    strategy = chain.head.watermarks
    return VertexSpec(
        number,
        title,
        tuple(specs),
        widths[chain.head],
        key_groups,
        alignment=strategy.alignment if strategy is not None else None,
        splits=splits.get(chain.head),
        source=chain.head.source,
    )


def _edges(links: list[Link], place: dict[Node, tuple[int, int]], widths: dict[Node, int]) -> list[EdgeSpec]:
    edges: list[EdgeSpec] = []
    for link in links:
        (source, operator), (target, position) = place[link.source], place[link.target]
        if source == target and position > 0:
            continue  # inside the chain
        partitioning = link.partitioning
        if partitioning is None:
            partitioning = FORWARD if widths[link.source] == widths[link.target] else REBALANCE
        schema = link.source.output if link.tag is None else link.source.sides.get(link.tag)
        edges.append(
            EdgeSpec(
                len(edges), source, operator, link.tag, target, link.port, partitioning, link.feedback, None, schema
            )
        )
    return edges


def _is_inside(edge: EdgeSpec, loops: dict[int, int]) -> bool:
    return edge.source in loops and loops.get(edge.source) == loops.get(edge.target)
