"""The fork tree: one zygote an interpreter, a template a flow, and instance kernels forked off it.

    conductor ──exec──▶ zygote (ipykernel imported)
                            └──fork──▶ template (the flow's imports, a shell)
                                           └──fork──▶ instance kernel, used once

Runs in the kernel's own interpreter, started by `start`. No thread and no ZeroMQ
context exists before the last fork; each instance makes its own. Orders come over Unix sockets as
one JSON object a packet, with file descriptors beside it where one is handed on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from ductaflow_inside import boot, instance, names
from ductaflow_inside.ahead import chance, needed, pages, plotting
from ductaflow_inside.kernel import cell
from ductaflow_inside.lifeline import arm_lifeline, take_standard_pipes
from ductaflow_inside.observing import asked, imports, observed, syscalls, variables
from ductaflow_inside.packages import installed, package_folders
from ductaflow_inside.requirements import unfit

MAX_PACKET = 1 << 20
Result = TypeVar("Result")


# --- packets ------------------------------------------------------------------------------------


def receive(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next order and its file descriptors; None when the other end is gone."""
    data, fds, _, _ = socket.recv_fds(channel, MAX_PACKET, 4)
    return (json.loads(data) if data else None), fds


def send(channel: socket.socket, **answer: Any) -> None:
    """Answer an order."""
    channel.send(json.dumps(answer).encode())


class _NotingEnvironment(dict):  # type: ignore[type-arg]
    """What lies behind `os.environ`, and notes which variables are looked up."""

    def __init__(self, data: dict[Any, Any]) -> None:
        super().__init__(data)
        self.looked_up: set[str] = set()

    def __getitem__(self, key: Any) -> Any:
        self.looked_up.add(os.fsdecode(key))
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        self.looked_up.add("*")  # a name that is not there yet would have counted, too
        return super().__iter__()


def note_environment() -> None:
    """Begin to note what imports read in the environment: they find it only once."""
    _replace_environment(_NotingEnvironment(_behind_environment()))


def _surroundings() -> dict[str, Any]:
    """What the imports so far can have seen: variables looked up, native libraries loaded."""
    behind = _behind_environment()
    read = behind.looked_up if isinstance(behind, _NotingEnvironment) else ()
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        parts = [line.rstrip("\n").split(None, 5) for line in maps]
    libraries = {p[5] for p in parts if len(p) == 6 and "x" in p[1] and p[5].startswith("/")}
    # Too long for a packet, perhaps.
    name = os.path.abspath(f"files-{os.getpid()}.json")
    with open(name, "w", encoding="utf-8", errors="surrogateescape") as file:
        files = {
            "since": _since,
            "reads": asked.reads(),
            "folders": asked.module_folders(),
            "files": asked.package_files(),
        }
        json.dump(files, file)
    near = asked.near()
    return {"read": sorted(read), "libraries": sorted(libraries), "files": name, "near": near}


_COARSE = 5  # CLOCK_REALTIME_COARSE: what files are stamped with (clock_gettime(2))
_since = 0  # when this process began to import, by the clock of files


def _begin() -> None:
    global _since
    _since = time.clock_gettime_ns(_COARSE)


def _behind_environment() -> dict[Any, Any]:
    return os.environ._data  # type: ignore[attr-defined,no-any-return]


def _replace_environment(data: dict[Any, Any]) -> None:
    os.environ._data = os.environb._data = data  # type: ignore[attr-defined]


def fork() -> int:
    """os.fork, without the warning that libraries' native threads call for since Python 3.12.

    They are at rest, and their libraries mind forks themselves (OpenBLAS, OpenMP, Arrow).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


# --- zygote -------------------------------------------------------------------------------------


def zygote(channel: socket.socket, lifeline: int, *, debugger: bool) -> None:
    """Fork a template for every order, until the conductor is gone."""
    if not debugger:
        boot.import_without_debugger()
    _import_kernel()
    why = names.unknown()
    if why:
        channel.send(unfit(why))
        os._exit(0)
    syscalls.prepare()
    pages.prepare()
    folders = package_folders()
    send(channel, ready=True, pid=os.getpid(), folders=folders, **_surroundings())
    while True:
        _reap_silently()
        order, fds = receive(channel)
        if order is None:
            os._exit(0)
        pid = fork()
        if pid == 0:
            channel.close()
            os.setpgid(0, 0)
            arm_lifeline(lifeline)
            template(socket.socket(fileno=fds[0]), lifeline, order)
        for fd in fds:
            os.close(fd)


# What a kernel imports by itself, so that a forked one imports nothing. Not matplotlib_inline: it
# would load matplotlib before there is a shell and a backend.
KERNEL_MODULES = (
    "comm",
    "faulthandler",
    "IPython.core.completerlib",
    "IPython.core.interactiveshell",
    "IPython.core.logger",
    "IPython.core.magic_arguments",
    "IPython.core.magics",
    "IPython.core.magics.execution",
    "IPython.core.magics.extension",
    "IPython.core.magics.pylab",
    "IPython.extensions.storemagic",
    "IPython.core.pylabtools",
    "IPython.lib.pretty",
    "IPython.utils.timing",
    "pygments.formatters.html",
    "pygments.formatters.terminal256",
    "pygments.lexers.python",
    "pygments.styles.default",
    "resource",
    "stack_data",
    "ipykernel.comm",
    "ipykernel.datapub",
    "ipykernel.debugger",
    "ipykernel.embed",
    "ipykernel.heartbeat",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "ipykernel.subshell",
    "ipykernel.zmqshell",
    "tornado.platform.asyncio",
    "zmq.eventloop.zmqstream",
)


def _import_kernel() -> None:
    for name in KERNEL_MODULES:
        with contextlib.suppress(ImportError):  # another version of ipykernel
            importlib.import_module(name)


def _reap_silently() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


# --- template -----------------------------------------------------------------------------------


def template(channel: socket.socket, lifeline: int, order: dict[str, Any]) -> None:
    """Import what the flow imports, then fork an instance for every order."""
    send(channel, pid=os.getpid())
    _begin()
    instance.take_environment(order["env"])
    note_environment()  # anew: this has looked at all there is
    try:
        from ductaflow_inside.kernel.assembly import prepare

        app = prepare(order["folder"])
    except names.OF_ANOTHER_VERSION:
        channel.send(unfit(names.failed()))
        os._exit(0)
    asked.problem()  # ipykernel's own are none
    variables.watch()
    _preload_all(channel, app.shell, order["preload"])
    ahead = needed.Ahead()
    while True:
        next_order, fds = receive(channel)
        if next_order is None:
            os._exit(0)
        elif next_order["do"] == "fork":
            _fork_instance(app, channel, lifeline, ahead, next_order, fds)
        elif next_order["do"] == "learn":
            _preload_all(channel, app.shell, next_order["modules"], settle=True)
            ahead = needed.Ahead()  # of other modules, another flow
        elif next_order["do"] == "reap":
            ahead.ended(next_order["pid"])
            _reap(channel, next_order["pid"])


def _preload_all(
    channel: socket.socket, shell: Any, names: list[str], *, settle: bool = False
) -> None:
    """Import modules, and say so.

    Args:
        channel: Where to.
        shell: The shell that the modules will find.
        names: See `preload`.
        settle: Whether nobody waits for the first kernel any more: then what makes the later ones
            faster is done, too.
    """
    imports.watch()
    for name in names:
        send(channel, importing=name, pid=os.getpid())
        problem = preload(shell, name)
        if problem:
            # An import cannot be undone: the conductor asks for a template without this one.
            send(channel, bad=name, why=problem)
            os._exit(0)
    if "matplotlib.pyplot" in sys.modules:
        with contextlib.suppress(ImportError):
            plotting.read_inline_backend()
    imports.pause()
    if settle:
        with variables.unnoted():
            _settle(shell)
    instance.note_modules()
    chance.find()
    asked.prepare()
    ahead = sorted(instance.ahead - sys.stdlib_module_names)  # which come first on the path
    send(channel, ready=True, pid=os.getpid(), ahead=ahead, **_surroundings())


def _settle(shell: Any) -> None:
    """Fill caches, which every kernel would otherwise fill for itself when it first needs them."""
    if "matplotlib.pyplot" in sys.modules:
        with contextlib.suppress(Exception):  # if it cannot draw, the flow will tell
            _printed(plotting.draw_a_figure)
    if "narwhals" in sys.modules:
        with contextlib.suppress(Exception):
            _printed(_find_plugins)
    from ductaflow_inside.kernel.assembly import exercise_tracebacks

    exercise_tracebacks(shell)


def _find_plugins() -> None:
    """Let narwhals look for its plugins, in a file of each installed package, once in a process.

    scikit-learn, plotly and others take data frames through it.
    """
    sys.modules["narwhals"].dependencies.is_into_dataframe(object())


# They start native threads when they are imported (polars 2.0), and hang in a forked child.
UNFORKABLE = frozenset({"polars"})


def _reap(channel: socket.socket, pid: int) -> None:
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:  # asked twice
        send(channel, exit=255, peak=0)
    else:
        send(channel, exit=os.waitstatus_to_exitcode(status), peak=usage.ru_maxrss * 1024)


def preload(shell: Any, name: str) -> str:
    """Import a module in advance.

    Code of the project is left alone, so that an edit is always seen, and so is what is not there.

    Args:
        shell: The shell that it will find.
        name: `package.module`, or `package:name` for `from package import name`.

    Returns:
        What makes it unfit to be imported ahead, or the empty string.
    """
    module, _, attribute = name.partition(":")
    if module.partition(".")[0] in (*UNFORKABLE, plotting.INLINE):
        return ""
    if not installed(_origin(module.partition(".")[0])):
        return ""
    before = set(sys.modules)
    code = f"__import__({module!r}, fromlist=[{attribute or '__name__'!r}])"
    (raised, problem), printed = _printed(lambda: cell.run(shell, code))
    problem = problem or asked.problem()  # before an error: it may be the cause
    if problem:
        return problem
    if raised is not None:
        return f"{type(raised).__name__}: {raised}"
    if printed:
        return "prints when it is imported"
    if threading.active_count() > 1:
        return "starts a thread when it is imported"
    for new in set(sys.modules) - before:
        if new in UNFORKABLE:
            return f"imports {new}, whose threads do not survive a fork"
        file = getattr(sys.modules[new], "__file__", None)
        # Some libraries make modules of which they say that they come from some file (torch.ops).
        if file and os.path.exists(file) and not installed(os.path.abspath(file)):
            return f"imports {new}, which is not an installed package"
    return ""


def _origin(top: str) -> str:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    if spec.submodule_search_locations:
        return next(iter(spec.submodule_search_locations), "")
    return spec.origin or ""


def _printed(do: Callable[[], Result]) -> tuple[Result, bytes]:
    """Do something; what it returns, and what is printed meanwhile, in Python or below it."""
    cell.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile(buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            result = do()
        finally:
            cell.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
        return result, os.pread(file.fileno(), 1000, 0)


def _fork_instance(
    app: Any,
    channel: socket.socket,
    lifeline: int,
    ahead: needed.Ahead,
    order: dict[str, Any],
    fds: list[int],
) -> None:
    from ductaflow_inside.kernel.assembly import serve

    for_flow = "launch" not in order  # a front end's kernel may do anything
    looks = for_flow and ahead.wanted()
    pid = fork()
    if pid == 0:
        try:
            if looks:
                needed.look(order["folder"])
            elif for_flow:
                ahead.get_ready()
            cell.collect_again()
            channel.close()
            os.setsid()
            arm_lifeline(lifeline)
            ready, errors = fds
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            os.close(errors)
            if "observer" in order:
                observed.attach(order["observer"], order["folder"])
            os.chdir(order["folder"])
            _replace_environment(dict(_behind_environment()))
            instance.forked = True
            asked.stop()
            chance.renew()
            serve(app, order["file"], order["folder"], ready, order.get("launch", ""))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if looks:
        ahead.looks(pid, order["folder"])
    for fd in fds:
        os.close(fd)
    send(channel, pid=pid)


def main(args: list[str]) -> None:
    """Entry point. Arguments: FD, which is the channel to the conductor, perhaps `debugger`."""
    cell.collect_nothing()  # until there is an instance
    _begin()
    asked.note_start(os.curdir)
    asked.watch()
    chance.watch()
    note_environment()
    lifeline, ready = take_standard_pipes()
    os.close(ready)
    arm_lifeline(lifeline)
    zygote(socket.socket(fileno=int(args[0])), lifeline, debugger="debugger" in args[1:])
