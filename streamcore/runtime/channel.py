"""Channels: the receiving end (`InputChannel`) and the sending end (`OutputChannel`), with credits.

A forward channel has a fixed number of credits; a batch takes one, and the receiver gives it back when it
takes the batch from its queue. Control elements need none. A feedback channel has no limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Protocol

from streamcore.runtime.elements import BATCHES, Barrier, Element, EndOfInput
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.recording import Recording
from streamcore.runtime.wakeup import Wakeup

Mark = Barrier | EndOfInput
"""What may end a channel's part of a snapshot."""


class InputChannel:
    """The receiving end. `grant` gives a credit back to the sender; in `marks` the subtask sees barriers that have
    arrived, before their turn has come; `restored`: how many elements at the front of the queue are of a snapshot."""

    __slots__ = (
        "feedback",
        "from_loop",
        "grant",
        "marks",
        "number",
        "port",
        "queue",
        "received",
        "recording",
        "restored",
        "wakeup",
    )

    def __init__(
        self, number: int, port: int, wakeup: Wakeup, *, feedback: FeedbackQueue | None = None, from_loop: bool = False
    ) -> None:
        self.number = number
        self.port = port
        self.wakeup = wakeup
        self.feedback = feedback is not None
        self.from_loop = from_loop
        self.queue: deque[Element] | FeedbackQueue = feedback if feedback is not None else deque()
        self.grant: Callable[[], None] | None = None
        self.received = 0
        self.restored = 0
        self.recording: Recording | None = None
        self.marks: list[tuple[int, Mark]] = []

    def deliver(self, element: Element) -> None:
        """Puts an element that has arrived into the queue and wakes the subtask."""
        if self.recording is not None:
            self.recording.arrives(element)
        if not isinstance(element, BATCHES) and isinstance(element, Mark):
            self.marks.append((self.number, element))
        self.queue.append(element)
        self.wakeup.notify()

    def restore(self, elements: Iterable[Element]) -> None:
        """Puts what was in flight in a snapshot into the queue, before anything arrives. Its batches were counted as
        sent and paid for with credit in another attempt."""
        for element in elements:
            self.queue.append(element)
            self.restored += 1

    def waiting(self) -> Iterator[Element | None]:
        """The queue from its front; None for an element that lies on disk."""
        if isinstance(self.queue, FeedbackQueue):
            yield from self.queue.in_memory
            yield from repeat(None, self.queue.on_disk)
        else:
            yield from self.queue

    def take(self) -> Element:
        """The first element; a batch gives its credit back."""
        element = self.queue.popleft()
        if self.recording is not None:
            self.recording.taken(element)
        if self.restored:
            self.restored -= 1
        elif isinstance(element, BATCHES):
            self.received += 1
            if self.grant is not None:
                self.grant()
        return element

    def peek(self) -> Element | None:
        """The first element, if there is one in memory."""
        queue = self.queue
        return queue.peek() if isinstance(queue, FeedbackQueue) else queue[0] if queue else None

    @property
    def queued_records(self) -> int:
        """Records waiting."""
        if isinstance(self.queue, FeedbackQueue):
            return self.queue.records
        return sum(len(element) for element in self.queue if isinstance(element, BATCHES))

    @property
    def has_more_than_barriers(self) -> bool:
        """Whether something else than barriers waits; over a back edge nothing else comes but records."""
        if isinstance(self.queue, FeedbackQueue):
            return self.queue.records > 0
        return not all(isinstance(element, Barrier) for element in self.queue)


class Transmit(Protocol):
    """Carries an element to the receiving end, without blocking."""

    def __call__(self, element: Element) -> None: ...


class OutputChannel:
    """The sending end."""

    __slots__ = ("credits", "sent", "transmit", "wakeup")

    def __init__(self, transmit: Transmit, wakeup: Wakeup, credit_count: int | None) -> None:
        self.transmit = transmit
        self.wakeup = wakeup
        self.credits: float = float("inf") if credit_count is None else credit_count
        self.sent = 0

    def send(self, element: Element) -> None:
        """Sends at once; the caller has looked at `credits` before it sends a batch."""
        if isinstance(element, BATCHES):
            assert self.credits > 0, "a batch was sent without credit"
            self.credits -= 1
            self.sent += 1
        self.transmit(element)

    def regain(self) -> None:
        """The receiver gave a credit back."""
        self.credits += 1
        self.wakeup.notify()


def connect_locally(receiver: InputChannel, sender_wakeup: Wakeup, credit_count: int) -> OutputChannel:
    """A channel between two subtasks of one process."""
    sender = OutputChannel(receiver.deliver, sender_wakeup, None if receiver.feedback else credit_count)
    if not receiver.feedback:
        receiver.grant = sender.regain
    return sender
