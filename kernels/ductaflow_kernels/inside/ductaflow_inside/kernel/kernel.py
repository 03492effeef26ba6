"""The IPythonKernel of ipykernel, with what a conductor asks of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from ipykernel import ipkernel
from ipykernel.ipkernel import IPythonKernel

from ductaflow_inside.instance import adopt, has_exit_handlers, look_at_path
from ductaflow_inside.kernel.descriptors import LastRequest, flush_c
from ductaflow_inside.kernel.ending import finish, give_up
from ductaflow_inside.kernel.journal import Journal
from ductaflow_inside.kernel.naming import named_as
from ductaflow_inside.kernel.shellstream import ShellStream, in_one_context
from ductaflow_inside.kernel.shortcuts import transformed_once
from ductaflow_inside.kernel.verdict import Verdict
from ductaflow_inside.names import one_thread

LINGER = 0.0005  # seconds for which the last word of a cell waits for the first of the next


@named_as(IPythonKernel)
class FlowKernel(IPythonKernel):  # type: ignore[misc]
    """An IPython kernel for one flow: it can be adopted, stays aborted, and ends tidily."""

    def __init__(self, **kwargs: Any) -> None:
        with _no_modules():
            super().__init__(**kwargs)  # takes the shell that prepare() has made
        self.shell.parent = self
        self.shell.kernel = self
        self.shell_handlers["adopt_request"] = self.adopt_request
        self.shell_handlers["finish_request"] = self.finish_request
        self.control_handlers["abort_request"] = self.abort_request
        self.control_handlers["heard_request"] = self.heard_request
        self.control_handlers["give_up_request"] = self.give_up_request
        self._hear: Callable[[], object] = _hear_nothing
        self._verdict: Verdict | None = None  # for a flow only, as the next
        self._last_request: LastRequest | None = None

    def connect(self, app: Any) -> None:
        """Get sockets and what publishes over them, in the process that is to be the kernel."""
        self.ident = str(uuid.uuid4())
        self.shell_stream = ShellStream(app.shell_socket)
        self.control_thread, self.iopub_thread = app.control_thread, app.iopub_thread
        self.iopub_socket, self.stdin_socket = app.iopub_socket, app.stdin_socket
        self.shell.displayhook.topic = self._topic("execute_result")
        self.shell.displayhook.pub_socket = self.shell.display_pub.pub_socket = app.iopub_socket
        self._stdout, self._stderr = sys.stdout, sys.stderr

    @property
    def _supports_kernel_subshells(self) -> bool:
        return bool(self.parent.front_end and super()._supports_kernel_subshells)

    def start(self) -> None:
        """Begin to serve."""
        if self.parent.front_end:
            super().start()
            return
        self._execute_sleep = 0.0  # a remedy for flushes that did wait
        self._verdict = Verdict(self.shell)
        self._last_request = LastRequest(self.iopub_thread.folder)
        if one_thread():
            self.iopub_thread.on_control = self.serve_control
            self.iopub_thread.journal = Journal(self.iopub_thread.folder)
        super().start()
        if one_thread():
            self.shell_stream.on_recv(in_one_context(functools.partial(self.shell_main, None)))
        # An async cell asks it, wanted or not, which thread is the main one.
        main = types.SimpleNamespace(parent_thread=threading.current_thread())
        self.shell_channel_thread = main

    async def execute_request(self, *args: Any, **kwargs: Any) -> None:
        """Execute a cell; what it flushes itself has left when flush() returns."""
        self._begin()
        self._in_cell(True)  # before the first message of it wakes the thread
        if self._verdict is not None:
            stops = self.get_parent("shell").get("content", {}).get("stop_on_error", True)
            self._verdict.begin(may_leave=stops)
        try:
            await super().execute_request(*args, **kwargs)
        finally:
            self._in_cell(False)

    async def do_execute(self, code: str, *args: Any, **kwargs: Any) -> Any:
        """Execute a cell. What comes after it waits for no flush."""
        look_at_path()
        try:
            with transformed_once(self.shell):
                reply = await super().do_execute(code, *args, **kwargs)
        finally:
            self._in_cell(False)
            self._take_below()
        if self._verdict is not None:
            reply = self._verdict.of(reply)
            if reply.get("left_early"):
                self._aborting = True
        return reply

    def _begin(self) -> None:
        if self._last_request is not None:
            self._last_request.note(self.get_parent("shell")["header"]["msg_id"])

    def _take_below(self) -> None:
        """Take in what was written below Python, while the cell that did it is known."""
        if one_thread() and not self.parent.front_end:
            flush_c()
            for stream in self.iopub_thread.streams:
                stream.flush()

    def task_left(self, leaving: SystemExit) -> None:
        """Take in an exit of a task; a cell that waits for that task meets it, too."""
        assert self._verdict is not None
        self._verdict.escaped(leaving)

    def _in_cell(self, whether: bool) -> None:
        self.iopub_thread.in_cell = whether

    def _publish_status(
        self, status: str, channel: str, parent: dict[str, Any] | None = None
    ) -> None:
        # A cell's first message is followed by its input at once; its last one is often
        # followed by the next cell. One wake-up of the thread that sends them is enough.
        if channel != "shell" or not one_thread() or self.parent.front_end:
            super()._publish_status(status, channel, parent)
            return
        told = (parent or self.get_parent(channel)).get("header", {}).get("msg_type")
        if status == "starting" or told == "adopt_request":
            return  # nobody listens yet, or waits for it
        if status == "idle" or (status == "busy" and told == "execute_request"):
            self.iopub_thread.lazy = True
            try:
                super()._publish_status(status, channel, parent)
            finally:
                self.iopub_thread.lazy = False
            asyncio.get_running_loop().call_later(LINGER, self.iopub_thread.wake_if_needed)
        else:
            super()._publish_status(status, channel, parent)

    def serve_control(self, frames: list[bytes]) -> None:
        """Answer a control request, in the IOPub thread."""
        idents, rest = self.session.feed_identities(frames)
        message = self.session.deserialize(rest)
        handler = self.control_handlers.get(message["header"]["msg_type"])
        answering = handler(self.parent.control_socket, idents, message) if handler else None
        if answering is not None:
            try:
                answering.send(None)
            except StopIteration:
                return
            answering.close()
            raise RuntimeError(f"{message['header']['msg_type']} cannot be answered at once")

    def _abort_queues(self, *args: Any, **kwargs: Any) -> None:
        if self.parent.front_end:
            super()._abort_queues(*args, **kwargs)
            return
        # All cells are sent ahead. ipykernel stops aborting as soon as it has emptied its own
        # queue, while later cells may still be in the socket; those must not run either.
        self._aborting = True

    async def adopt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Become the kernel of one instance: its folder, its environment."""
        if not self._reply(stream, ident, parent, "adopt_reply", adopt, parent["content"]):
            self._aborting = True  # no cell may run in the wrong folder

    async def finish_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Do what a normal end of the interpreter does: exit handlers, open files.

        A handler may end the process, and with it what is still on its way. So, where the flow
        has any, or a cell has failed, the conductor first says that it has heard all of it.
        """
        self._begin()
        if self._aborting or has_exit_handlers():
            heard = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._hear = lambda: loop.call_soon_threadsafe(heard.set)
            self.session.send(stream, "last_words", {}, parent, ident=ident)
            await heard.wait()

        def tell(content: dict[str, Any]) -> None:
            self.session.send(stream, "ending", content, parent, ident=ident)

        self._reply(stream, ident, parent, "finish_reply", finish, tell)
        self._take_below()

    async def abort_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run no cell that has not begun."""
        self._aborting = True
        self._reply(stream, ident, parent, "abort_reply", dict)

    async def give_up_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Wait no longer for the flow's threads."""
        give_up()
        self._reply(stream, ident, parent, "give_up_reply", dict)

    async def heard_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Learn that the conductor has heard all that was said."""
        self._hear()
        self._reply(stream, ident, parent, "heard_reply", dict)

    def _reply(self, stream: Any, ident: Any, parent: Any, name: str, do: Any, *args: Any) -> bool:
        try:
            content = {"status": "ok", **do(*args)}
        except BaseException as e:  # an interrupt, too, is answered
            content = {"status": "error", "ename": type(e).__name__, "evalue": str(e)}
        self.session.send(stream, name, content, parent, ident=ident)
        return bool(content["status"] == "ok")


@contextlib.contextmanager
def _no_modules() -> Iterator[None]:
    """Let a new kernel see no modules.

    It looks at each for its debugger, which touches, and so copies, thousands of pages that a
    forked process shares with its template.
    """
    ipkernel.sys = types.SimpleNamespace(**{**vars(sys), "modules": {}})
    try:
        yield
    finally:
        ipkernel.sys = sys


def _hear_nothing() -> None:
    """Nobody waits for it."""
