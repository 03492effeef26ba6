"""From request to answer in a flow's kernel: jupyter_client's and pyzmq's classes, with less work.

A small cell takes ten times as long to be asked for
and told about as to run, so what is done for each message counts. The classes are made when first
asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hmac
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from ductaflow_inside.kernel.cell import named_as


@functools.lru_cache(maxsize=1)
def session_class() -> Any:
    """The Session of jupyter_client, which packs the request that it answers once, not each time.

    Its dates are read by Python itself where that can (since 3.11), not by dateutil.
    """
    from jupyter_client.jsonutil import json_default, parse_date
    from jupyter_client.session import DELIM, Session, adapt, json_packer

    encode = json.JSONEncoder(default=json_default, ensure_ascii=False, allow_nan=False).encode

    def pack(part: Any) -> bytes:
        try:
            return encode(part).encode("utf-8", "surrogateescape")
        except (TypeError, ValueError):  # it has a remedy, and a warning
            return bytes(json_packer(part))

    def with_date(header: dict[str, Any]) -> dict[str, Any]:
        date = header.get("date")
        if isinstance(date, str):
            try:
                header["date"] = datetime.fromisoformat(date)
            except ValueError:  # what Python 3.10 does not know, as a Z at the end
                header["date"] = parse_date(date)
            else:
                if header["date"].tzinfo is None:  # it takes it for local time, with a warning
                    header["date"] = parse_date(date)
        return header

    @named_as(Session)
    class FlowSession(Session):  # type: ignore[misc]
        """Reads and writes the same messages as its base."""

        _packed: tuple[Any, bytes] = (None, b"")  # the last parent header, as it is and packed

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            if self.packer == "json":  # the default
                self.pack = pack

        def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
            """See its base."""
            parent = msg["parent_header"]
            known = self._packed
            if known[0] is not parent:
                known = self._packed = parent, self.pack(parent)
            content = msg.get("content") or {}
            if isinstance(content, str):
                content = content.encode("utf-8")
            elif not isinstance(content, bytes):  # else packed already, as in a relayed message
                content = self.pack(content)
            parts = [self.pack(msg["header"]), known[1], self.pack(msg["metadata"]), content]
            idents = ident if isinstance(ident, list) else [] if ident is None else [ident]
            return [*idents, DELIM, self.sign(parts), *parts]

        def feed_identities(self, msg_list: list[Any], copy: bool = True) -> Any:
            """See its base."""
            parts = msg_list if copy else [frame.bytes for frame in msg_list]
            at = parts.index(DELIM)
            return [bytes(part) for part in parts[:at]], msg_list[at + 1 :]

        def deserialize(self, msg_list: list[Any], content: bool = True, copy: bool = True) -> Any:
            """See its base."""
            signature, *parts = (part if copy else bytes(part.bytes) for part in msg_list[:5])
            if len(parts) < 4:
                raise TypeError("malformed message, must have at least 5 elements")
            if self.auth is not None:
                if not signature:
                    raise ValueError("Unsigned Message")
                if signature in self.digest_history:
                    raise ValueError(f"Duplicate Signature: {signature!r}")
                if content:
                    self._add_digest(signature)
                if not hmac.compare_digest(signature, self.sign(parts)):
                    raise ValueError(f"Invalid Signature: {signature!r}")
            header = with_date(self.unpack(parts[0]))
            message = {
                "header": header,
                "msg_id": header["msg_id"],
                "msg_type": header["msg_type"],
                "parent_header": with_date(self.unpack(parts[1])),
                "metadata": self.unpack(parts[2]),
                "content": self.unpack(parts[3]) if content else parts[3],
                "buffers": [memoryview(b if copy else b.bytes) for b in msg_list[5:]],
            }
            return adapt(message)

    return FlowSession


@functools.lru_cache(maxsize=1)
def shell_stream_class() -> Any:
    """The ZMQStream of a flow's shell channel: it sends at once, and reads without a queue."""
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

    return ShellStream


def in_one_context(
    serve: Callable[[list[Any]], Any],
) -> Callable[[list[Any]], Awaitable[object]]:
    """Have requests served by a coroutine function in one context, which outlives each of them."""
    if sys.version_info < (3, 11):
        from ipykernel.utils import _async_in_context

        return _async_in_context(serve)  # type: ignore[no-any-return]
    context = contextvars.copy_context()
    return lambda frames: asyncio.get_running_loop().create_task(serve(frames), context=context)


def remember_what_does_not_change(shell: Any) -> None:
    """Spare what ipykernel and IPython would find out anew for every cell."""
    from ipykernel import ipkernel
    from IPython.core import interactiveshell

    if hasattr(ipkernel, "_accepts_parameters"):
        ipkernel._accepts_parameters = _remembered(ipkernel._accepts_parameters)
        ipkernel._accepts_parameters(shell.run_cell_async, ["cell_id", "cell_meta"])
    if hasattr(interactiveshell, "_should_be_async"):
        interactiveshell._should_be_async = _if_it_may_be(interactiveshell._should_be_async)


def _remembered(accepts: Callable[..., Any]) -> Callable[..., Any]:
    """The parameters that a function accepts do not change, and looking at them takes a while."""
    known: dict[Any, Any] = {}

    @functools.wraps(accepts)
    def accepts_parameters(function: Any, names: list[str]) -> Any:
        key = getattr(function, "__func__", function), tuple(names)
        if key not in known:
            known[key] = accepts(function, names)
        return known[key]

    return accepts_parameters


def _if_it_may_be(should_be_async: Callable[[str], bool]) -> Callable[[str], bool]:
    """IPython compiles each cell twice to find out whether it waits for something at its top."""

    @functools.wraps(should_be_async)
    def should(cell: str) -> bool:
        return ("await" in cell or "async" in cell) and should_be_async(cell)

    return should
