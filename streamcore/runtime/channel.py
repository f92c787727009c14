"""Channels: the receiving end (`InputChannel`) and the sending end (`OutputChannel`), with credits.

A forward channel has a fixed number of credits; a batch takes one, and the receiver gives it back when it
takes the batch from its queue. Control elements need none. A feedback channel has no limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from streamcore.batch import Columns
from streamcore.runtime.elements import Barrier, Element
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.wakeup import Wakeup


class InputChannel:
    """The receiving end. `grant` gives a credit back to the sender."""

    __slots__ = ("feedback", "from_loop", "grant", "number", "port", "queue", "received", "wakeup")

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

    def deliver(self, element: Element) -> None:
        """Puts an element that has arrived into the queue and wakes the subtask."""
        self.queue.append(element)
        self.wakeup.notify()

    def take(self) -> Element:
        """The first element; a batch gives its credit back."""
        element = self.queue.popleft()
        if isinstance(element, list | Columns):
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
        return sum(len(element) for element in self.queue if isinstance(element, list | Columns))

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
        if isinstance(element, list | Columns):
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
