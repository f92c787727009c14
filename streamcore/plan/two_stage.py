"""Two-stage aggregation: partial results before the exchange, merged after it (Flink's local-global, a combiner)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamcore.plan.graph import Link, Node
from streamcore.runtime.spec import Route


def split_aggregates(
    nodes: list[Node], links: list[Link], widths: dict[Node, int], uid_of: Callable[[Node], str]
) -> tuple[list[Node], list[Link]]:
    """Puts a partial aggregate into the producer's chain of every aggregate whose input crosses between subtasks, and
    the merging form in the aggregate's place, under the same uid. Adds the new nodes to `widths`."""
    chosen = {link.target: link for link in links if _pays(link, widths)}
    if not chosen:
        return nodes, links
    new_nodes: list[Node] = []
    stages: dict[Node, tuple[Node, Node]] = {}
    for node in nodes:
        if node in chosen:
            first, second = stages[node] = _stages(node, uid_of(node))
            widths[first], widths[second] = widths[chosen[node].source], widths[node]
            new_nodes += [first, second]
        else:
            new_nodes.append(node)
    new_links: list[Link] = []
    for link in links:
        source = stages[link.source][1] if link.source in stages else link.source
        if link.target in stages:
            first, second = stages[link.target]
            new_links.append(Link(source, link.tag, first, 0, None, feedback=False))
            new_links.append(Link(first, None, second, 0, link.partitioning, feedback=False))
        else:
            new_links.append(replace(link, source=source))
    return new_nodes, new_links


def _pays(link: Link, widths: dict[Node, int]) -> bool:
    meet = link.target.is_single or (link.partitioning is not None and link.partitioning.route is Route.HASH)
    crosses = widths[link.source] > 1 or widths[link.target] > 1
    return link.target.two_stage is not None and meet and crosses and not link.feedback


def _stages(node: Node, uid: str) -> tuple[Node, Node]:
    stages = node.two_stage
    assert stages is not None, "an aggregate in one form only"
    name, between = f"partial {node.name}", stages.between
    first = replace(
        node,
        name=name,
        uid=f"{uid}-partial",
        make=stages.first,
        output=between,
        chainable=True,
        stateless=True,
        is_single=False,
    )
    return first, replace(node, uid=uid, make=stages.second, schemas=(between,))
