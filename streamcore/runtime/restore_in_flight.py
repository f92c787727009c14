"""What one subtask takes over of the records that were in flight in a snapshot, at any parallelism.

What waited in an input channel goes into the same channel again, ahead of all that arrives; what a barrier had
overtaken goes into the same output again. Where the subtasks at an end of the edge are others than they were:

- a record that waited for one of the old receivers goes to the one that the edge's own rule chooses now: by hash or by
  the user's function; what was dealt out evenly or sent straight on goes from old subtask i to i mod n
- a new sender i takes over what the old senders i, i + n, … had left, and sends it by the edge's own rule
- copies that were broadcast stay where they are if the number of receivers has not changed, and are refused otherwise:
  each of the old receivers has seen another part of them
- an edge that leads from operator to operator inside of one chain now is gone through before all else
- watermarks are left out, since those of one channel mean nothing behind the records of another: the sources send
  theirs again, and they come behind all records that were in flight
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from streamcore.batch import Batch, Columns, Schema
from streamcore.batch.codec import decode_saved
from streamcore.checkpoint.in_flight import InFlight, SavedChannel, SavedElement
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.edges import chain_links, edge_name, incoming, outgoing, receivers
from streamcore.runtime.elements import Element, Watermark
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.spec import EdgeSpec, JobSpec, Route, VertexSpec
from streamcore.time import MIN_TIME


@dataclass(slots=True)
class RestoredInFlight:
    """What one subtask takes over."""

    inside: list[tuple[int, Batch]] = field(default_factory=list)
    """For operators inside of the chain: (place in the chain, batch), in order."""
    inputs: list[tuple[int, list[Element]]] = field(default_factory=list)
    """What was in flight on input channels: (channel, elements in order)."""
    outputs: list[tuple[int, int | None, list[Element]]] = field(default_factory=list)
    """What barriers had overtaken: (edge, its target, elements in order); target None: by the edge's own rule."""


def read_in_flight(
    job: JobSpec, vertex: VertexSpec, index: int, saved: Sequence[tuple[SubtaskEntry, InFlight]]
) -> RestoredInFlight:
    """What a subtask finds in the parts of the old subtasks.

    Raises:
        IncompatibleSnapshotError: records were in flight on an edge that is no more, or on one that is broadcast to
            another number of subtasks than now.
    """
    reader = _Reader(job, vertex, index)
    for entry, in_flight in saved:
        for channel in in_flight.inputs:
            reader.input(entry, channel)
    for entry, in_flight in saved:  # behind the inputs: so they come, where both are inside of the chain
        for channel in in_flight.outputs:
            reader.output(entry, channel)
    return reader.found


class _Reader:
    def __init__(self, job: JobSpec, vertex: VertexSpec, index: int) -> None:
        self._job = job
        self._vertex = vertex
        self._index = index
        self._channels = {
            (edge_name(job, edge), sender): (number, edge)
            for number, (edge, sender) in enumerate(incoming(job, vertex.id, index))
        }
        self._senders: dict[str, list[int]] = {}
        for name, sender in self._channels:
            self._senders.setdefault(name, []).append(sender)
        self._links = chain_links(vertex)
        self.found = RestoredInFlight()
        self._outgoing = {edge_name(job, edge): (i, edge) for i, edge in enumerate(outgoing(job, vertex.id))}

    def input(self, entry: SubtaskEntry, saved: SavedChannel) -> None:
        """Takes what of an old input channel comes here."""
        senders = self._senders.get(saved.edge)
        if senders is None:
            self._inside(entry, saved, is_own=any(f">{spec.uid}." in saved.edge for spec in self._vertex.operators))
            return
        number, edge = self._channels[saved.edge, senders[saved.peer % len(senders)]]
        if entry.parallelism == self._vertex.parallelism:
            if entry.index == self._index:
                elements = self._elements(edge, saved.elements, in_place=saved.peers == len(senders))
                self.found.inputs.append((number, elements))
        elif edge.partitioning.route is Route.BROADCAST:
            raise self._broadcast(saved.edge, entry.parallelism)
        else:
            batches = [self._own_records(edge, batch, entry) for batch in self._batches(edge.schema, saved)]
            self.found.inputs.append((number, [batch for batch in batches if len(batch)]))

    def output(self, entry: SubtaskEntry, saved: SavedChannel) -> None:
        """Takes what this subtask sends of what an old one had left."""
        found = self._outgoing.get(saved.edge)
        if found is None:
            is_own = any(saved.edge.startswith(f"{spec.uid}.") for spec in self._vertex.operators)
            self._inside(entry, saved, is_own=is_own)
            return
        if entry.index % self._vertex.parallelism != self._index:
            return
        number, edge = found
        in_place = entry.parallelism == self._vertex.parallelism
        targets = receivers(self._job, edge, self._index)
        if edge.partitioning.route is Route.FORWARD:
            self.found.outputs.append((number, 0, self._elements(edge, saved.elements, in_place=in_place)))
        elif saved.peers == len(targets):
            self.found.outputs.append((number, saved.peer, self._elements(edge, saved.elements, in_place=in_place)))
        elif edge.partitioning.route is Route.BROADCAST:
            raise self._broadcast(saved.edge, saved.peers)
        else:
            self.found.outputs.append((number, None, [*self._batches(edge.schema, saved)]))

    def _inside(self, entry: SubtaskEntry, saved: SavedChannel, *, is_own: bool) -> None:
        """An edge that isn't between chains any more. `is_own`: one end is here."""
        place = self._links.get(saved.edge)
        if place is None:
            if is_own:
                raise self._gone(saved.edge)
        elif entry.index % self._vertex.parallelism == self._index:
            schema = self._vertex.operators[place].schemas[0]
            self.found.inside.extend((place, batch) for batch in self._batches(schema, saved))

    def _batches(self, schema: Schema | None, saved: SavedChannel) -> list[Batch]:
        return [self._batch(schema, *element) for element in saved.elements if len(element) == 2]

    def _elements(self, edge: EdgeSpec, saved: Iterable[SavedElement], *, in_place: bool) -> list[Element]:
        """Decoded; watermarks only if they are to be `in_place`. The last leaves no idleness behind: the sender, who
        begins anew, would not know that it has to take it back before it sends records."""
        elements: list[Element] = []
        idle = False
        for element in saved:
            if len(element) == 2:
                elements.append(self._batch(edge.schema, *element))
            elif in_place:
                _, time_ms, idle = element
                elements.append(Watermark(time_ms, idle))
        return [*elements, Watermark(MIN_TIME)] if idle else elements

    def _batch(self, schema: Schema | None, form: int, body: bytes) -> Batch:
        batch = decode_saved(form, body, allow_pickle=self._job.settings.allow_pickle)
        if isinstance(batch, Columns) and schema is not None:
            return Columns(schema, batch.arrays)  # whose rows are of the user's class again
        return batch

    def _own_records(self, edge: EdgeSpec, batch: Batch, entry: SubtaskEntry) -> Batch:
        vertex = self._vertex
        if edge.partitioning.route in (Route.HASH, Route.CUSTOM):
            partition = make_partitioner(edge.partitioning, 0, vertex.parallelism, vertex.max_parallelism)
            return dict(partition(batch)).get(self._index, [])
        return batch if entry.index % vertex.parallelism == self._index else []

    def _gone(self, edge: str) -> IncompatibleSnapshotError:
        return IncompatibleSnapshotError(
            f"{self._vertex.name}: the snapshot has records in flight on the edge {edge}, "
            "which the topology no longer has",
            hint="restore with the topology and parallelism that wrote it, and give operators on loops a uid; an "
            "aligned checkpoint, such as a stop takes, has records in flight on back edges only",
        )

    def _broadcast(self, edge: str, parallelism: int) -> IncompatibleSnapshotError:
        return IncompatibleSnapshotError(
            f"{self._vertex.name}: records were in flight on the edge {edge}, which is broadcast: each of the "
            f"{parallelism} subtasks had seen another part, so its parallelism can't change now",
            hint=f"restore with parallelism {parallelism}; unless the edge leads back, an aligned checkpoint, such as "
            "a stop takes, has no records in flight on it",
        )
