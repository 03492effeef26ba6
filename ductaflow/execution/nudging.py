"""A kernel that is not ours, and that has said nothing of a cell for a while, is asked something.

ipykernel 7.0 to 7.3 may leave a message in one of its sockets that comes while it handles another
one, until the next comes (ipython/ipykernel#1529): a request that never begins, or a reply that is
never sent. A question makes it look again. What it says on iopub of a question that was sent after
a cell's reply comes after all that it says there of the cell: if the cell's `idle` has not come by
then, it never will, as on a socket whose queue was full.
"""

from __future__ import annotations

from typing import final

import attrs
from ductaflow_kernels.session.session import KernelSession

AFTER = 1.0  # seconds without a word of a cell that was sent, or that has ended; then twice as many


@final
@attrs.define(eq=False)
class Nudge:
    """Wakes one kernel.

    Attributes:
        session: The kernel's.
    """

    session: KernelSession
    _since: float = 0.0  # by the monotonic clock, as the next
    _next: float = 0.0
    _sent: dict[str, bool] = attrs.field(factory=dict)  # whether a reply had come before

    def heard(self, now: float) -> None:
        """Begin to wait: a cell was sent, or something was said of it."""
        self._since, self._next = now, now + AFTER

    def wake(self, now: float, replied: bool) -> None:
        """Ask something, if it is time to.

        Args:
            now: The time, by the monotonic clock.
            replied: Whether the reply to the cell that is waited for has come.
        """
        if now >= self._next:
            self._sent[self.session.request("kernel_info_request", {})] = replied
            self._next = now + (now - self._since)  # a kernel may say nothing of what it does

    def asked(self, request: str) -> bool:
        """Whether this is one of its questions."""
        return request in self._sent

    def passed(self, request: str) -> bool:
        """Whether this was asked after a cell's reply, so that all is said of that cell."""
        return self._sent.get(request, False)
