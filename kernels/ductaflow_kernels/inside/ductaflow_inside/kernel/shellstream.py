"""The ZMQStream of a flow's shell channel: it sends at once, and reads without a queue."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import zmq
from zmq.eventloop.zmqstream import ZMQStream


class ShellStream(ZMQStream):
    """Hands over one request at a time; the next when that one's task is done.

    Or when the event loop finds one, if the task waits: as with its base, a request may come
    while an async cell is under way.
    """

    _take: Callable[[list[Any]], Awaitable[object]] | None = None

    def on_recv(self, callback: Any, copy: bool = True) -> None:  # noqa: ARG002
        """Have requests taken by a coroutine function, in its base's frames."""
        self._take = callback
        self.io_loop.add_callback(self._handle_events)  # of those that are there already

    def send_multipart(self, msg: Any, *args: Any, copy: bool = True, **kwargs: Any) -> None:  # noqa: ARG002
        """Send it now: a ROUTER does not wait."""
        self.socket.send_multipart(msg, copy=copy)

    def flush(self, flag: int = zmq.POLLIN | zmq.POLLOUT, limit: int | None = None) -> int:  # noqa: ARG002
        """Take a request, if one is there and wanted; nothing waits to be sent.

        Returns:
            How many it has taken: front ends' event loops make way for it.
        """
        return self._next() if flag & zmq.POLLIN else 0

    def sending(self) -> bool:
        """Whether something waits to be sent: never."""
        return False

    def receiving(self) -> bool:
        """Whether requests are taken."""
        return self._take is not None

    def _handle_events(self, *_: Any) -> None:
        self._next()

    def _next(self, _: object = None) -> int:
        if self._take is None or self.socket is None:
            return 0
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return 0
        task = asyncio.ensure_future(self._take(frames))
        # What has come meanwhile has not woken the loop again (ZMQ_FD is edge-triggered).
        task.add_done_callback(self._next)
        return 1


def in_one_context(
    serve: Callable[[list[Any]], Any],
) -> Callable[[list[Any]], Awaitable[object]]:
    """Have requests served by a coroutine function in one context, which outlives each of them."""
    if sys.version_info < (3, 11):
        from ipykernel.utils import _async_in_context

        return _async_in_context(serve)  # type: ignore[no-any-return]
    context = contextvars.copy_context()
    return lambda frames: asyncio.get_running_loop().create_task(serve(frames), context=context)
