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
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

if __name__ == "__main__" and getattr(sys.flags, "safe_path", bool(sys.flags.isolated)):
    # Python has left this folder out.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import ductaflow_ahead as in_advance  # beside this file, as the next
import ductaflow_asked as asked
import ductaflow_cell as cell
import ductaflow_ending as ending
import ductaflow_instance as instance
import ductaflow_iopub as iopub
import ductaflow_kernel as kernel
import ductaflow_names as names
import ductaflow_observed as observed
import ductaflow_warned as warned
import ductaflow_wire as wire
from ductaflow_packages import package_folders
from ductaflow_start import UNFIT_EXIT, unfit

READY = b"ready\n"
STARTED = "started.json"
WARM_UPS = 20
OOM_SCORE = "/proc/self/oom_score_adj"  # proc(5)
OOM_MORE = 300  # thousandths of all memory that a kernel seems to use more


# --- the lifeline -----------------------------------------------------------------------------


def arm_lifeline(fd: int) -> None:
    """Kill this process group as soon as the pipe behind `fd` loses its last writer.

    On Linux the kernel itself sends SIGKILL (fcntl(2): F_SETSIG, F_SETOWN, O_ASYNC), so it works
    while the GIL is held in native code. Elsewhere, and on a Linux without `/proc`, a thread waits
    for the end of file.
    """
    if not os.path.isdir("/proc/self/fd"):
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
    from ipykernel.zmqshell import ZMQInteractiveShell

    with _environment(IPYTHONDIR=folder):
        app = kernel.app_class().instance(kernel_class=kernel.kernel_class())
        app.initialize_base([])
        app.config.HistoryManager.hist_file = ":memory:"  # as nbclient's kernels have it
        app.config.IPKernelApp.connection_file = os.path.join(folder, "kernel.json")
        app.init_pdb()
        shell = ZMQInteractiveShell.instance(
            parent=app,
            ipython_dir=folder,
            profile_dir=app.profile_dir,
            user_ns=app.user_ns,
            compiler_class=kernel.compiler_class(),
        )
    app.shell = shell
    app.load_extensions()
    app.load_code()
    app.make_kernel()
    _keep_the_way_out_open()
    # Making a class empties Python's cache of attributes: so make them before the fork.
    iopub.iopub_thread_class(front_end=False)
    iopub.stream_class()
    wire.shell_stream_class()
    wire.remember_what_does_not_change(shell)
    _launcher()  # it looks for a file
    _exercise(shell)
    warned.count_warnings()
    app.init_surroundings()
    cell.set_arguments(_launcher(), os.path.join(folder, "kernel.json"))
    cell.make_streams(app.session)
    # As IPKernelApp.init_gui_pylab does before a flow's first import.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    instance.note_own_modules()
    return app


def _keep_the_way_out_open() -> None:
    """Spare from the exit handlers what carries large messages.

    They are not copied, and without its collector ZeroMQ cannot send them. It would be imported for
    the first of them, which may be a flow's last word.
    """
    from zmq.utils import garbage

    atexit.unregister(garbage.gc._atexit)


def import_without_debugger() -> None:
    """Import ipykernel as if debugpy were not installed.

    It takes a quarter of a second, and serves front ends with a debugger only. A flow can import it
    as ever.
    """
    if "debugpy" in sys.modules:
        return
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    try:
        with contextlib.suppress(ImportError):  # another version of it
            import ipykernel.debugger  # noqa: F401
    finally:
        del sys.modules["debugpy"]


def _exercise(shell: Any) -> None:
    """Have the shell build what it builds when first used: parsers, formatters.

    More than once, for Python then specialises the code (PEP 659), which would otherwise happen in
    every kernel, on pages of its own.
    """
    for _ in range(WARM_UPS):
        shell.run_cell("pass", silent=True, store_history=False)
    shell.display_formatter.format(0)


@functools.lru_cache(maxsize=1)
def exercise_tracebacks(shell: Any) -> None:
    """As `_exercise`, for an error: it takes too long where somebody waits for the first kernel."""
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

    kernelapp.IOPubThread = iopub.iopub_thread_class(front_end=app.front_end)
    kernelapp.IOPubThread.folder = folder
    app.shell.compile.front_end = app.front_end
    if not app.front_end:
        app.log.setLevel(app.log_level)  # else it writes every message that nobody will see
        iostream.OutStream = iopub.stream_class()
        kernelapp.ShellChannelThread = _no_thread
    else:
        iostream.OutStream = cell.reused(iostream.OutStream)
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


def serve(app: Any, connection_file: str, folder: str, ready: int, launch: str = "") -> None:
    """Run a kernel in this process until it is told to stop.

    Args:
        app: What `prepare` made.
        connection_file: See `complete`.
        folder: See `complete`.
        ready: A file descriptor on which to say so once it serves.
        launch: For a front end's kernel, a JSON file of its `cwd` and `env`; it is removed.
    """
    instance.folder = folder
    if launch:
        _become_ordinary(app, launch)
    else:
        _go_before_the_conductor()
    # What a flow sees is what `python -m ipykernel_launcher -f FILE` shows it.
    cell.set_arguments(_launcher(), connection_file)
    app.config.IPKernelApp.connection_file = connection_file
    serving: list[bool] = []
    try:
        _serve(app, connection_file, folder, ready, serving, for_flow=not launch)
    except names.OF_ANOTHER_VERSION:
        if not serving:
            os.write(ready, unfit(names.failed()))
        raise
    if launch:
        ending.finish()
        os._exit(0)


def _serve(
    app: Any, connection_file: str, folder: str, ready: int, serving: list[bool], *, for_flow: bool
) -> None:
    complete(app, connection_file, folder)
    instance.note_modules()
    if for_flow:
        # The kernel's threads share the GIL; the default of 5 ms is a wait at every hand-over, and
        # a tenth of this is a fight for it.
        sys.setswitchinterval(1e-3)
    in_advance.begin()
    _when_serving(ready, serving)
    app.start()


def _go_before_the_conductor() -> None:
    """Where memory runs out, let Linux end this process, and not the one that tells of it."""
    with contextlib.suppress(OSError, ValueError), open(OOM_SCORE, "r+", encoding="ascii") as file:
        score = min(1000, int(file.read()) + OOM_MORE)
        file.seek(0)
        file.write(str(score))


def _become_ordinary(app: Any, launch: str) -> None:
    with open(launch, encoding="utf-8") as file:
        instance.adopt(json.load(file))
    os.remove(launch)
    app.front_end = True
    app.parent_handle = 1  # do not watch the parent: there is the lifeline


def _when_serving(ready: int, serving: list[bool]) -> None:
    from tornado.ioloop import IOLoop

    def say() -> None:
        serving.append(True)
        os.write(ready, READY)
        os.close(ready)

    IOLoop.current().add_callback(say)


@functools.lru_cache(maxsize=1)
def _launcher() -> str:
    import importlib.util

    spec = importlib.util.find_spec("ipykernel_launcher")
    return spec.origin if spec and spec.origin else "ipykernel_launcher.py"


def _note_start(folder: str) -> None:
    """Leave word of what the interpreter has read: that may change while the kernel waits."""
    asked.note_start(folder)
    stamps = {path: asked.stamp(path) for path in package_folders()}
    with open(os.path.join(folder, STARTED), "w", encoding="utf-8") as file:
        json.dump({**asked.reads(), **stamps}, file)


def main() -> None:
    """Entry point. Arguments: MODE FOLDER OBSERVER ..., where the observer may be empty.

    `kernel` and a connection file make it a kernel of ours, `exec` and a command any other.
    """
    del sys.path[0]  # this file's folder is no place to import from
    lifeline, ready = take_standard_pipes()
    arm_lifeline(lifeline)
    mode, folder, observer, *args = sys.argv[1:]
    if mode == "exec":  # a kernel that is not ours, kept on the lifeline
        if observer:
            observed.attach(observer, folder)
        os.close(ready)
        os.execvp(args[0], args)
    random.seed()
    _note_start(folder)
    import_without_debugger()
    app = _prepared(folder, ready)
    if observer:
        observed.attach(observer, folder)  # what the kernel itself has read is no flow's input
    serve(app, args[0], folder, ready)


def _prepared(folder: str, ready: int) -> Any:
    why = names.unknown()
    if not why:
        try:
            return prepare(folder)
        except names.OF_ANOTHER_VERSION:
            why = names.failed()
    os.write(ready, unfit(why))
    sys.exit(UNFIT_EXIT)


if __name__ == "__main__":
    main()
