"""Start one IPython kernel, in the kernel's own interpreter.

It runs as a file, never imported by the conductor, and needs nothing but that interpreter's own
ipykernel.

The process gets three pipes: stdin is the lifeline (it closes when the conductor is gone, however
it went), stdout carries one line when the kernel is ready, stderr goes to a file that the conductor
quotes if the start fails.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib.machinery
import io
import json
import os
import random
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

READY = b"ready\n"
WARM_UPS = 20


# --- the lifeline -----------------------------------------------------------------------------


def arm_lifeline(fd: int) -> None:
    """Kill this process group as soon as the pipe behind `fd` loses its last writer.

    On Linux the kernel itself sends SIGKILL (fcntl(2): F_SETSIG, F_SETOWN, O_ASYNC), so it works
    while the GIL is held in native code. Elsewhere a thread waits for the end of file.
    """
    if not sys.platform.startswith("linux"):
        threading.Thread(target=_wait_for_eof, args=(fd,), name="lifeline", daemon=True).start()
        return
    import fcntl

    # O_ASYNC and its owner belong to the open file description, which a fork shares: take our own.
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    os.set_inheritable(own, True)  # survives the exec of a foreign kernel
    if _at_eof(own):  # the conductor went before we were armed
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _at_eof(fd: int) -> bool:
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


def _wait_for_eof(fd: int) -> None:
    while os.read(fd, 4096):
        pass
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def take_standard_pipes() -> tuple[int, int]:
    """Move the lifeline and the ready pipe off fds 0 and 1, which the flow may use.

    Returns:
        The file descriptors of the lifeline and of the ready pipe.
    """
    lifeline, ready = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return lifeline, ready


# --- the kernel -------------------------------------------------------------------------------


def prepare(folder: str) -> Any:
    """All of a kernel that can exist before it is known which: its configuration and its shell.

    No socket, thread or ZeroMQ context is made, so that the process can still be forked. What it
    imports from here on finds an IPython shell, as a flow's own imports do.

    Args:
        folder: What IPython takes for its home; the user's own is neither read nor written.

    Returns:
        The application, for `complete`.
    """
    from ipykernel.compiler import XCachingCompiler
    from ipykernel.zmqshell import ZMQInteractiveShell

    with _environment(IPYTHONDIR=folder):
        app = _app_class().instance(kernel_class=_kernel_class())
        app.initialize_base([])
        app.config.HistoryManager.enabled = False
        app.user_ns = {}
        app.init_pdb()
        shell = ZMQInteractiveShell.instance(
            parent=app,
            ipython_dir=folder,
            profile_dir=app.profile_dir,
            user_ns=app.user_ns,
            compiler_class=XCachingCompiler,
        )
    app.shell = shell
    app.load_extensions()
    app.session  # noqa: B018  (made when first asked for)
    # Making a class empties Python's cache of attributes: so make them before the fork.
    _iopub_thread_class()
    _stream_class()
    _launcher()  # it looks for a file
    _exercise(shell)
    _count_warnings()
    # As IPKernelApp.init_gui_pylab does before a flow's first import.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    _own_modules.update(sys.modules)
    return app


def import_without_debugger() -> None:
    """Import ipykernel as if debugpy were not installed.

    It takes a quarter of a second, and serves front ends with a debugger only. A flow can import it
    as ever.
    """
    if "debugpy" in sys.modules:
        return
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    try:
        import ipykernel.debugger  # noqa: F401
    finally:
        del sys.modules["debugpy"]


_logged = [0]  # records at WARNING and above


def _count_warnings() -> None:
    """Count what `logging` is told at WARNING and above, wherever it goes and however it looks."""
    import logging

    handle = logging.Logger.handle

    def counted(self: logging.Logger, record: logging.LogRecord) -> None:
        # Jupyter's own machinery is no part of the flow.
        if record.levelno >= logging.WARNING and not record.name.startswith(_MACHINERY):
            _logged[0] += 1
        handle(self, record)

    logging.Logger.handle = counted  # type: ignore[method-assign]


_MACHINERY = ("IPKernelApp", "traitlets", "tornado", "asyncio", "ipykernel")


def _exercise(shell: Any) -> None:
    """Have the shell build what it builds when first used: parsers, formatters, tracebacks.

    More than once, for Python then specialises the code (PEP 659), which would otherwise happen in
    every kernel, on pages of its own.
    """
    for _ in range(WARM_UPS):
        shell.run_cell("pass", silent=True, store_history=False)
    shell.display_formatter.format(0)
    try:
        shell.user_ns["no such name"]
    except KeyError:
        shell.InteractiveTB.structured_traceback(*sys.exc_info())


def complete(app: Any, connection_file: str, folder: str) -> None:
    """Make a prepared application a kernel: sockets bound, threads started, not yet serving.

    Args:
        app: What `prepare` made, in this process or in one that this was forked from.
        connection_file: The Jupyter connection file that names its sockets and key.
        folder: A private folder for its IPython profile and auxiliary socket.
    """
    from ipykernel import iostream, kernelapp

    kernelapp.IOPubThread = _iopub_thread_class()
    kernelapp.IOPubThread.folder = folder
    if not app.front_end:
        iostream.OutStream = _stream_class()
        kernelapp.ShellChannelThread = _no_thread
    _renew_session(app.session)
    app.connection_file = connection_file
    app.move_profile(folder)
    app.initialize([])
    if not app.front_end:
        # finish() runs the exit handlers, and its own answer still has to leave after them.
        atexit.unregister(app.close)
        atexit.unregister(app.iopub_thread.stop)


def _no_thread(*_: Any, **__: Any) -> None:
    """Instead of the thread with which front ends reach subshells: a hop less for a flow."""


def _renew_session(session: Any) -> None:
    """Make a session that was made before a fork one of this process."""
    session.session = os.urandom(16).hex()
    session.pid = os.getpid()


def _app_class() -> Any:
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


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@functools.lru_cache(maxsize=1)
def _iopub_thread_class() -> Any:
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
def _stream_class() -> Any:
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


def _kernel_class() -> Any:
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


def adopt(content: dict[str, Any]) -> dict[str, Any]:
    """Give a kernel that was started ahead of need the folder and environment of its instance."""
    take_environment(content["env"], keep=("MPLBACKEND",))
    os.chdir(content["cwd"])
    _forget_shadowed(content["cwd"])
    return {}


def take_environment(env: dict[str, str], keep: tuple[str, ...] = ()) -> None:
    """Make the environment what it is said to be.

    Args:
        env: All variables.
        keep: Names that stay though they are not among these.
    """
    now = os.environ.copy()
    for name in set(now) - set(env) - set(keep):
        del os.environ[name]
    for name, value in env.items():
        if now.get(name) != value:
            os.environ[name] = value


_own_modules: set[str] = set()
_ahead: set[str] = set()  # packages that are not a kernel's own, but were imported for the flow


def _forget_shadowed(folder: str) -> None:
    """Forget modules imported ahead that the instance's own folder has too.

    It comes before the installed packages on the path, so a flow would have imported those.
    """
    for entry in os.listdir(folder):
        top = entry.partition(".")[0]
        if top in _ahead:
            found = importlib.machinery.PathFinder.find_spec(top, [folder])
            if found is not None and found.origin is not None:
                for name in [n for n in sys.modules if n.partition(".")[0] == top]:
                    del sys.modules[name]


def finish() -> dict[str, Any]:
    """What the interpreter does on its way out, without going: a kernel is killed afterwards.

    Returns:
        `peak_memory` in bytes, `imported`: the modules that the flow made it import, and
        `warnings`: how many records of WARNING and above `logging` got.
    """
    imported = [name for name in list(sys.modules) if name not in _modules_at_start]
    # Not threading._shutdown(), which also declares this thread dead: ipykernel then closes the
    # socket over which the answer would leave.
    for leave in reversed(threading._threading_atexits):  # type: ignore[attr-defined]
        leave()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    _keep_the_way_out_open()
    atexit._run_exitfuncs()
    gc.collect()
    for item in gc.get_objects():
        if type(item) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            try:
                if not item.closed:
                    item.flush()
            except (OSError, ValueError) as e:
                print(f"cannot flush {getattr(item, 'name', item)!r}: {e}", file=sys.stderr)
    return {"peak_memory": peak_memory(), "imported": imported, "warnings": _logged[0]}


_modules_at_start: set[str] = set()


def _keep_the_way_out_open() -> None:
    """Spare from the exit handlers what still carries our messages."""
    from zmq.utils.garbage import gc as zmq_collector

    sys.stdout.flush()
    sys.stderr.flush()
    # Large messages are not copied: without its collector, ZeroMQ cannot send them.
    atexit.unregister(zmq_collector._atexit)


def peak_memory() -> int | None:
    """This process's peak resident memory in bytes, or None where it cannot be known."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(app: Any, connection_file: str, folder: str, ready: int, launch: str = "") -> None:
    """Run a kernel in this process until it is told to stop.

    Args:
        app: What `prepare` made.
        connection_file: See `complete`.
        folder: See `complete`.
        ready: A file descriptor on which to say so once it serves.
        launch: For a front end's kernel, a JSON file of its `cwd` and `env`; it is removed.
    """
    if launch:
        _become_ordinary(app, launch)
    # What a flow sees is what `python -m ipykernel_launcher -f FILE` shows it.
    sys.argv = [_launcher(), "-f", connection_file]
    complete(app, connection_file, folder)
    _modules_at_start.update(sys.modules)
    _logged[0] = 0  # what was said before the flow began
    _ahead.update({name.partition(".")[0] for name in _modules_at_start} - _own_modules)
    if not launch:
        # The kernel's threads share the GIL; the default of 5 ms is a wait at every hand-over, and
        # a tenth of this is a fight for it.
        sys.setswitchinterval(1e-3)
    _when_serving(ready)
    app.start()
    if launch:
        finish()
        os._exit(0)


def _become_ordinary(app: Any, launch: str) -> None:
    with open(launch, encoding="utf-8") as file:
        adopt(json.load(file))
    os.remove(launch)
    app.front_end = True
    app.parent_handle = 1  # do not watch the parent: there is the lifeline


def _when_serving(ready: int) -> None:
    from tornado.ioloop import IOLoop

    def say() -> None:
        os.write(ready, READY)
        os.close(ready)

    IOLoop.current().add_callback(say)


@functools.lru_cache(maxsize=1)
def _launcher() -> str:
    import importlib.util

    spec = importlib.util.find_spec("ipykernel_launcher")
    return spec.origin if spec and spec.origin else "ipykernel_launcher.py"


def main() -> None:
    """Entry point: `boot.py kernel CONNECTION_FILE FOLDER` or `boot.py exec ARGV...`."""
    del sys.path[0]  # this file's folder is no place to import from
    lifeline, ready = take_standard_pipes()
    arm_lifeline(lifeline)
    mode, *args = sys.argv[1:]
    if mode == "exec":  # a kernel that is not ours, kept on the lifeline
        os.close(ready)
        os.execvp(args[0], args)
    random.seed()
    import_without_debugger()
    serve(prepare(args[1]), args[0], args[1], ready)


if __name__ == "__main__":
    main()
