"""Which vertices lie on a common cycle."""

from __future__ import annotations

from collections.abc import Sequence


def strongly_connected(count: int, edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The cycles of a directed graph (Tarjan 1972).

    Args:
        count: vertices are 0 … count - 1.
        edges: (source, target) pairs.

    Returns:
        vertex → number of its strongly connected component, for vertices that lie on a cycle only
        (nested and crossing loops are one component).
    """
    successors: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        successors[source].append(target)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    result: dict[int, int] = {}
    components = 0

    def visit(root: int) -> None:
        nonlocal components
        work = [(root, iter(successors[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            vertex, rest = work[-1]
            for target in rest:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    work.append((target, iter(successors[target])))
                    break
                if target in stack:
                    low[vertex] = min(low[vertex], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[vertex])
                if low[vertex] == index[vertex]:
                    component = stack[stack.index(vertex) :]
                    del stack[stack.index(vertex) :]
                    if len(component) > 1 or vertex in successors[vertex]:
                        result.update(dict.fromkeys(component, components))
                        components += 1

    for vertex in range(count):
        if vertex not in index:
            visit(vertex)
    return result
