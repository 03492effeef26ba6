"""ipykernel's application, kernel and streams, as a flow's kernel needs them.

Beside `ductaflow_boot.py`, which puts them together. The classes are made when first asked for, so
that a kernel that is not ours pays for none.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

from ductaflow_instance import adopt, finish


def app_class() -> Any:
    """The IPKernelApp of ipykernel, initialised in two steps: the first before the fork."""
    from ipykernel.kernelapp import IPKernelApp
    from ipykernel.zmqshell import ZMQInteractiveShell
    from IPython.core.application import BaseIPythonApplication
    from IPython.core.profiledir import ProfileDir

    class BareProfileDir(ProfileDir):  # type: ignore[misc]
        """A profile folder whose own folders nobody will look into."""

        def check_dirs(self) -> None:
            """Make none of them."""

    class Base(BaseIPythonApplication):  # type: ignore[misc]
        """Stands between IPKernelApp and its base, whose part `prepare` has done already."""

        def initialize(self, argv: Any = None) -> None:
            """Nothing is left to do."""

    class FlowKernelApp(IPKernelApp, Base):  # type: ignore[misc]
        """An IPKernelApp that is initialised in two steps."""

        def initialize_base(self, argv: list[str]) -> None:
            """The first step, without a profile folder."""
            BaseIPythonApplication.initialize(self, argv)

        def init_profile_dir(self) -> None:
            """A profile that is nowhere yet; nothing is read from the user's own."""
            self.profile_dir = BareProfileDir()

        def init_config_files(self) -> None:
            """None: the profile is empty."""

        def load_config_file(self, *_: Any, **__: Any) -> None:
            """None: the profile is empty."""

        def move_profile(self, folder: str) -> None:
            """Give the kernel a profile folder of its own."""
            if self.front_end:
                self.profile_dir = ProfileDir()
            self.profile_dir.location = os.path.join(folder, "profile")
            shell = ZMQInteractiveShell.instance()
            shell.profile_dir = self.profile_dir
            if "db" in vars(shell):  # IPython 8 opens its store at once
                shell.db = type(shell.db)(os.path.join(folder, "profile", "db"))

        front_end = False  # whether a front end uses it, who expects ipykernel's own habits

        def load_extensions(self) -> None:
            """What `init_extensions` does, before the fork."""
            super().init_extensions()

        def init_extensions(self) -> None:
            """They are loaded."""

        def write_connection_file(self, *args: Any, **kwargs: Any) -> None:
            """For a flow the conductor has written it."""
            if self.front_end:
                super().write_connection_file(*args, **kwargs)

        def log_connection_info(self) -> None:
            """Tell a front end's user; a flow has none."""
            if self.front_end:
                super().log_connection_info()

        def _run_startup_files(self) -> None:
            if self.front_end:
                super()._run_startup_files()

        def init_heartbeat(self) -> None:
            """None for a flow: a conductor learns of a kernel's death from its process."""
            if self.front_end:
                super().init_heartbeat()

    return FlowKernelApp


def iopub_thread_class() -> Any:
    """The IOPubThread of ipykernel, with fewer wake-ups and no TCP port."""
    import zmq
    from ipykernel.iostream import IOPubThread
    from zmq.eventloop.zmqstream import ZMQStream

    class FlowIOPubThread(IOPubThread):  # type: ignore[misc]
        folder = ""  # where the socket lies over which forked children print
        _waking = False

        def schedule(self, f: Any) -> None:
            """Queue `f` for the thread; one wake-up serves all that is queued until it is up."""
            if not self.thread.is_alive():
                f()
                return
            self._events.append(f)
            if not self._waking:
                self._waking = True
                self._event_pipe.send(b"")

        def _handle_event(self, msg: Any) -> None:
            self._waking = False  # before the queue is read: what comes later wakes again
            try:
                super()._handle_event(msg)
            finally:
                if self._events:  # one of them raised
                    self.schedule(lambda: None)

        if os.name == "posix":

            def _setup_pipe_in(self) -> None:
                self._pipe_uuid = os.urandom(16)
                pipe_in = self.socket.context.socket(zmq.PULL)
                pipe_in.linger = 0
                pipe_in.bind("ipc://" + os.path.join(self.folder, "p"))
                self._pipe_in = ZMQStream(pipe_in, self.io_loop)
                self._pipe_in.on_recv(self._handle_pipe_msg)

            def _setup_pipe_out(self) -> tuple[Any, Any]:
                context: Any = zmq.Context()  # a context does not survive a fork
                pipe_out = context.socket(zmq.PUSH)
                pipe_out.linger = 3000
                pipe_out.connect("ipc://" + os.path.join(self.folder, "p"))
                return context, pipe_out

    return FlowIOPubThread


@functools.lru_cache(maxsize=1)
def stream_class() -> Any:
    """The OutStream of ipykernel, which waits for nothing after a cell."""
    from ipykernel import iostream

    class FlowOutStream(iostream.OutStream):  # type: ignore[misc]
        in_cell = False

        def flush(self) -> None:
            """Send what is buffered; in a cell, wait until it has left: a crash may follow.

            After a cell ipykernel flushes both streams twice. All messages leave in the order in
            which they are queued, so there is nothing to wait for.
            """
            if type(self).in_cell or self.pub_thread is None:
                super().flush()
            elif self._buffers:
                self._flush()

    return FlowOutStream


def kernel_class() -> Any:
    """The IPythonKernel of ipykernel, with what a conductor asks of it."""
    from ipykernel import iostream, ipkernel
    from ipykernel.ipkernel import IPythonKernel

    class FlowKernel(IPythonKernel):  # type: ignore[misc]
        """An IPython kernel for one flow: it can be adopted, stays aborted, and ends tidily."""

        def __init__(self, **kwargs: Any) -> None:
            with _no_modules(ipkernel):
                super().__init__(**kwargs)  # takes the shell that prepare() has made
            self.shell.parent = self
            self.shell.kernel = self
            self.shell_handlers["adopt_request"] = self.adopt_request
            self.shell_handlers["finish_request"] = self.finish_request
            self.control_handlers["abort_request"] = self.abort_request
            if not self.parent.front_end:
                self._execute_sleep = 0.0  # a remedy for flushes that did wait
                self.shell.ask_exit = _refuse_exit

        @property
        def _supports_kernel_subshells(self) -> bool:
            return bool(self.parent.front_end and super()._supports_kernel_subshells)

        def start(self) -> None:
            """Begin to serve."""
            super().start()
            if not self.parent.front_end:
                # An async cell asks it, wanted or not, which thread is the main one.
                main = types.SimpleNamespace(parent_thread=threading.current_thread())
                self.shell_channel_thread = main

        async def do_execute(self, code: str, *args: Any, **kwargs: Any) -> Any:
            """Execute a cell; what it flushes itself has left when flush() returns."""
            iostream.OutStream.in_cell = True
            try:
                return await super().do_execute(code, *args, **kwargs)
            finally:
                iostream.OutStream.in_cell = False

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
            """Do what a normal end of the interpreter does: exit handlers, open files."""
            self._reply(stream, ident, parent, "finish_reply", finish)

        async def abort_request(self, stream: Any, ident: Any, parent: Any) -> None:
            """Run no cell that has not begun."""
            self._aborting = True
            self._reply(stream, ident, parent, "abort_reply", dict)

        def _reply(
            self, stream: Any, ident: Any, parent: Any, name: str, do: Any, *args: Any
        ) -> bool:
            try:
                content = {"status": "ok", **do(*args)}
            except Exception as e:
                content = {"status": "error", "ename": type(e).__name__, "evalue": str(e)}
            self.session.send(stream, name, content, parent, ident=ident)
            return bool(content["status"] == "ok")

    return FlowKernel


@contextlib.contextmanager
def _no_modules(ipkernel: Any) -> Iterator[None]:
    """Let a new kernel see no modules.

    It looks at each for its debugger, which touches, and so copies, thousands of pages that a
    forked process shares with its template.
    """
    ipkernel.sys = types.SimpleNamespace(**{**vars(sys), "modules": {}})
    try:
        yield
    finally:
        ipkernel.sys = sys


def _refuse_exit() -> None:
    # ipykernel would go on with the cells that were sent ahead, and leave a little later.
    raise SystemExit("exit() was called; no later cell has run")
