"""Put a kernel together: all that can be made before a fork, then the rest, and serve.

It imports ipykernel, as the modules do whose classes it uses, so it is itself imported late: when
names that they rely on are known to be there, and for a kernel of ours only.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from ipykernel import iostream, kernelapp
from ipykernel.zmqshell import ZMQInteractiveShell
from tornado.ioloop import IOLoop
from zmq.utils import garbage

from ductaflow_inside import instance, names, warned
from ductaflow_inside.ahead import needed
from ductaflow_inside.kernel import cell, earlystream, ending, shortcuts
from ductaflow_inside.kernel.app import FlowKernelApp
from ductaflow_inside.kernel.compiler import FlowCompiler
from ductaflow_inside.kernel.kernel import FlowKernel
from ductaflow_inside.kernel.outstream import FlowOutStream
from ductaflow_inside.names import one_thread
from ductaflow_inside.requirements import unfit

READY = b"ready\n"
WARM_UPS = 20
OOM_SCORE = "/proc/self/oom_score_adj"  # proc(5)
OOM_MORE = 300  # thousandths of all memory that a kernel seems to use more


def prepare(folder: str) -> Any:
    """All of a kernel that can exist before it is known which: its configuration and its shell.

    No socket, thread or ZeroMQ context is made, so that the process can still be forked. What it
    imports from here on finds an IPython shell, as a flow's own imports do.

    Args:
        folder: What IPython takes for its home; the user's own is neither read nor written.

    Returns:
        The application, for `complete`.
    """
    with _environment(IPYTHONDIR=folder):
        app = FlowKernelApp.instance(kernel_class=FlowKernel)
        app.initialize_base([])
        app.config.HistoryManager.hist_file = ":memory:"  # as nbclient's kernels have it
        app.config.IPKernelApp.connection_file = os.path.join(folder, "kernel.json")
        app.init_pdb()
        shell = ZMQInteractiveShell.instance(
            parent=app,
            ipython_dir=folder,
            profile_dir=app.profile_dir,
            user_ns=app.user_ns,
            compiler_class=FlowCompiler,
        )
    app.shell = shell
    app.load_extensions()
    app.load_code()
    app.make_kernel()
    _keep_the_way_out_open()
    # Making a class empties Python's cache of attributes: so this one, too, before the fork.
    _iopub_thread(front_end=False)
    shortcuts.remember_what_does_not_change(shell)
    _launcher()  # it looks for a file
    _exercise(shell)
    warned.count_warnings()
    app.init_surroundings()
    cell.set_arguments(_launcher(), os.path.join(folder, "kernel.json"))
    earlystream.make_streams(app.session)
    # As IPKernelApp.init_gui_pylab does before a flow's first import.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    instance.note_own_modules()
    return app


def _keep_the_way_out_open() -> None:
    """Spare from the exit handlers what carries large messages.

    They are not copied, and without its collector ZeroMQ cannot send them. It would be imported for
    the first of them, which may be a flow's last word.
    """
    atexit.unregister(garbage.gc._atexit)


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
    kernelapp.IOPubThread = _iopub_thread(front_end=app.front_end)
    kernelapp.IOPubThread.folder = folder
    app.shell.compile.front_end = app.front_end
    if not app.front_end:
        app.log.setLevel(app.log_level)  # else it writes every message that nobody will see
        iostream.OutStream = FlowOutStream
        kernelapp.ShellChannelThread = _no_thread
    else:
        iostream.OutStream = earlystream.reused(iostream.OutStream)
    _renew_session(app.session)
    app.connection_file = connection_file
    app.move_profile(folder)
    app.initialize([])
    if not app.front_end:
        # finish() runs the exit handlers, and its own answer still has to leave after them.
        atexit.unregister(app.close)
        atexit.unregister(app.iopub_thread.stop)


def _iopub_thread(*, front_end: bool) -> Any:
    """The IOPubThread of a kernel, for a front end or for a flow."""
    if front_end or not one_thread():
        from ductaflow_inside.kernel.frontend import FrontEndThread

        return FrontEndThread
    from ductaflow_inside.kernel.iopub import FlowThread

    return FlowThread


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
    needed.begin()
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
    def say() -> None:
        serving.append(True)
        os.write(ready, READY)
        os.close(ready)

    IOLoop.current().add_callback(say)


@functools.lru_cache(maxsize=1)
def _launcher() -> str:
    spec = importlib.util.find_spec("ipykernel_launcher")
    return spec.origin if spec and spec.origin else "ipykernel_launcher.py"
