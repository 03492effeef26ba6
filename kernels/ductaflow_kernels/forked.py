"""Kernels forked from a warm template: the source that makes a fresh kernel cost milliseconds.

See `inside/ductaflow_zygote.py` for the processes; this is the conductor's end of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow_kernels.connection import Connection, new_connection
from ductaflow_kernels.errors import KernelStartError
from ductaflow_kernels.process import UNKNOWN_EXIT, open_pidfd, read_peak_memory, signal_group
from ductaflow_kernels.session import KernelSession
from ductaflow_kernels.sources import INSIDE, START_TIMEOUT, spawn, tail, wait_for_ready
from ductaflow_kernels.spec import KernelRequest, KernelSpec, WarmKey

ZYGOTE = INSIDE / "ductaflow_zygote.py"
PRELOAD_TIMEOUT = 30.0  # seconds for the import of one module
ANSWER_TIMEOUT = 10.0  # seconds for a fork, or for taking an exit code
MAX_PACKET = 1 << 20
# They act on the shell when they are imported, or belong to the kernel itself.
NEVER_LEARNT = frozenset({"matplotlib_inline", "IPython", "ipykernel", "__main__", "__mp_main__"})


def forking_works() -> bool:
    """Whether this system has what forked kernels need: Linux with pidfd (5.3)."""
    return sys.platform.startswith("linux") and hasattr(os, "pidfd_open")


class TreeBroken(KernelStartError):
    """A zygote or template is gone or does not answer."""


@final
@attrs.define(eq=False)
class Branch:
    """A process of the tree, zygote or template, and the channel to it.

    Attributes:
        channel: Our end of the socket.
        pid: Its process id, known once it is ready.
        left_out: Modules that a template was to import and could not, and why.
        package_folders: When each folder of packages was last changed, as of its zygote's start.
        learnt: Modules that a template was told to import later on.
    """

    channel: socket.socket
    pid: int = 0
    left_out: dict[str, str] = attrs.field(factory=dict)
    package_folders: dict[str, int] = attrs.field(factory=dict)
    learnt: set[str] = attrs.field(factory=set)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def ask(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        """Send an order and wait for its answer.

        Raises:
            TreeBroken: It is gone, or does not answer in time.
        """
        with self._lock:
            self.tell(order, fds)
            return self.hear(ANSWER_TIMEOUT)

    def tell(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send an order."""
        try:
            socket.send_fds(self.channel, [json.dumps(order).encode()], fds)
        except OSError as e:
            raise TreeBroken(f"the kernel template (pid {self.pid}) is gone: {e}") from e

    def hear(self, timeout: float) -> dict[str, Any]:
        """Wait for a packet."""
        self.channel.settimeout(timeout)
        try:
            data = self.channel.recv(MAX_PACKET)
        except OSError as e:
            raise TreeBroken(f"the kernel template (pid {self.pid}) does not answer: {e}") from e
        if not data:
            raise TreeBroken(f"the kernel template (pid {self.pid}) is gone")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def hear_of_imports(self) -> dict[str, str] | None:
        """Wait while a template imports; None if all went well, else what did not, and why.

        Raises:
            TreeBroken: It is gone, and not on account of an import.
        """
        importing = ""
        try:
            while True:
                word = self.hear(PRELOAD_TIMEOUT)
                importing = word.get("importing", importing)
                if word.get("ready"):
                    self.pid = word["pid"]
                    return None
                if "bad" in word:
                    return {word["bad"]: word["why"]}
        except TreeBroken:
            if not importing:
                raise
            # The import took too long, or took the process with it.
            return {importing: "hangs or crashes when it is imported ahead"}

    def learn(self, modules: Sequence[str]) -> dict[str, str] | None:
        """Have a template import more, for the kernels that it will fork; see `hear_of_imports`."""
        with self._lock:
            self.learnt.update(modules)
            self.tell({"do": "learn", "modules": list(modules)})
            return self.hear_of_imports()

    def fresh(self) -> bool:
        """Whether no package has been installed, upgraded or removed since its zygote began."""
        return _stamps(self.package_folders) == self.package_folders

    def end(self) -> None:
        """End it; kernels that it has forked live on."""
        self.channel.close()
        if self.pid:
            signal_group(self.pid, signal.SIGKILL)
            self.pid = 0


@final
@attrs.define(eq=False)
class Zygote:
    """One interpreter's zygote and its templates."""

    popen: subprocess.Popen[bytes]
    branch: Branch
    connection: Connection  # its folder holds the log
    templates: dict[tuple[str, ...], Branch] = attrs.field(factory=dict)
    left_out: dict[str, str] = attrs.field(factory=dict)  # module → why it is not imported ahead

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.popen.poll() is None

    def fresh(self) -> bool:
        """Whether it lives, and no package has been installed or removed since it began."""
        return self.alive and self.branch.fresh()

    def fork_template(self, modules: Sequence[str]) -> Branch:
        """A template that begins to import the modules; it says so on its channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                folder = str(self.connection.folder)
                order = {"do": "template", "preload": list(modules), "folder": folder}
                self.branch.tell(order, (theirs.fileno(),))
            except TreeBroken:
                ours.close()
                raise
        return Branch(ours, package_folders=self.branch.package_folders)

    def wither(self) -> None:
        """End it and its templates; their kernels live on."""
        for template in self.templates.values():
            template.end()
        self.templates.clear()
        self.branch.end()
        self.popen.kill()
        self.popen.wait()
        self.connection.remove()

    def end(self) -> None:
        """End it, its templates and their kernels, whose lifeline it holds."""
        self.wither()
        assert self.popen.stdin is not None
        self.popen.stdin.close()


@final
class ForkedProcess:
    """A kernel's process, a child of a template."""

    def __init__(self, pid: int, template: Branch) -> None:
        self.pid = pid
        self.sentinel = open_pidfd(pid)
        self.template = template
        self._code: int | None = None
        self._peak: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """See `KernelProcess`."""
        with self._lock:
            if self._code is None and self._ended(0):
                self._reap()
            return self._code

    def signal(self, signum: int) -> None:
        """See `KernelProcess`."""
        if self.poll() is None:
            signal_group(self.pid, signum)

    def kill(self) -> None:
        """See `KernelProcess`."""
        if self.poll() is None:
            self.peak_memory()
            signal_group(self.pid, signal.SIGKILL)
            self._ended(ANSWER_TIMEOUT)
            self.poll()

    def peak_memory(self) -> int | None:
        """See `KernelProcess`."""
        if self._code is None:
            self._peak = max(self._peak or 0, read_peak_memory(self.pid) or 0) or None
        return self._peak

    def close(self) -> None:
        """See `KernelProcess`."""
        if self.sentinel is not None:
            os.close(self.sentinel)
            self.sentinel = None

    def _ended(self, seconds: float) -> bool:
        if self.sentinel is None:
            return True
        waiting = select.poll()
        waiting.register(self.sentinel, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _reap(self) -> None:
        # Until its template has taken the exit code the pid cannot be anybody else's.
        signal_group(self.pid, signal.SIGKILL)  # what the flow has left running
        try:
            answer = self.template.ask({"do": "reap", "pid": self.pid})
        except TreeBroken:
            self._code = UNKNOWN_EXIT
            return
        self._code = int(answer["exit"])
        self._peak = max(self._peak or 0, answer["peak"])


@final
class ForkSource:
    """Forks kernels off a template that has imported what their flow imports.

    A branch of the tree that is gone or stuck is replaced; if that fails too, the kernel is spawned
    as a process of its own.
    """

    name = "forked"
    ahead = True

    def __init__(self, timeout: float = START_TIMEOUT, *, debugger: bool = False) -> None:
        self._timeout = timeout
        self._debugger = debugger
        self._zygotes: dict[tuple[KernelSpec, Any], Zygote] = {}
        self._withered: list[Zygote] = []  # replaced; their kernels may be in use
        self._lock = threading.Lock()

    def start(self, request: KernelRequest) -> KernelSession:
        """A kernel forked from its flow's template; see `KernelSource`."""
        with contextlib.suppress(KernelStartError):
            try:
                return self._fork(request)
            except TreeBroken:
                self._discard(request.warm_key)
                return self._fork(request)
        return spawn(request, None, "prespawned", self._timeout)

    def expect(self, request: KernelRequest) -> None:
        """See `KernelSource`: a zygote is started."""
        with self._lock, contextlib.suppress(KernelStartError):  # the lease will tell
            self._zygote(request)

    def learn(self, session: KernelSession, imported: Sequence[str]) -> None:
        """See `KernelSource`: the next kernels of this template have the modules from the start."""
        process = session.process
        if not isinstance(process, ForkedProcess):
            return
        template = process.template
        with self._lock:
            zygotes = [z for z in self._zygotes.values() if template in z.templates.values()]
        new = [
            name
            for name in imported
            if name not in template.learnt and name.partition(".")[0] not in NEVER_LEARNT
        ]
        if not new or not zygotes:
            return
        with contextlib.suppress(TreeBroken):  # the next lease will replace it
            bad = template.learn(new)
            if bad is not None:
                zygotes[0].left_out.update(bad)
                self._remove(zygotes[0], template)

    def _remove(self, zygote: Zygote, template: Branch) -> None:
        with self._lock:
            for key, known in list(zygote.templates.items()):
                if known is template:
                    del zygote.templates[key]
        template.end()

    def fresh(self, session: KernelSession) -> bool:
        """See `KernelSource`."""
        process = session.process
        return not isinstance(process, ForkedProcess) or process.template.fresh()

    def launch(self, request: KernelRequest, file: Path) -> tuple[ForkedProcess, Connection]:
        """A kernel for a front end, which made the connection file and will connect by itself.

        It has a heartbeat, and aborts and exits as ipykernel's own does.

        Args:
            request: Its interpreter, folder, environment and what to preload.
            file: The connection file, absolute.

        Returns:
            Its process, and a connection of which only the folder counts: the caller removes it.

        Raises:
            KernelStartError: It did not come up.
        """
        try:
            return self._launch(request, file)
        except TreeBroken:
            self._discard(request.warm_key)
            return self._launch(request, file)

    def close(self) -> None:
        """End the tree and every kernel of it."""
        with self._lock:
            zygotes = [*self._zygotes.values(), *self._withered]
            self._zygotes.clear()
            self._withered.clear()
        for zygote in zygotes:
            zygote.end()

    # --- forking ------------------------------------------------------------------------------

    def _fork(self, request: KernelRequest) -> KernelSession:
        deadline = time.monotonic() + self._timeout
        template = self._template(request)
        connection = new_connection()
        process: ForkedProcess | None = None
        session: KernelSession | None = None
        try:
            connection.write()
            process = _fork_process(template, connection, deadline)
            session = KernelSession(request.spec, process, connection, self.name, template.left_out)
            session.open(max(0.0, deadline - time.monotonic()))
        except BaseException as e:
            said = tail(connection.folder / "start.log")
            if session is not None:
                session.close()
            else:
                if process is not None:
                    process.kill()
                    process.close()
                connection.remove()
            if isinstance(e, KernelStartError) and not isinstance(e, TreeBroken):
                raise KernelStartError(f"a forked kernel did not start: {e}{said}") from e
            raise
        return session

    def _launch(self, request: KernelRequest, file: Path) -> tuple[ForkedProcess, Connection]:
        deadline = time.monotonic() + self._timeout
        template = self._template(request)
        own = new_connection()
        try:
            given = json.dumps({"cwd": str(request.cwd), "env": request.environment})
            (own.folder / "launch.json").write_text(given, encoding="utf-8")
            return _fork_process(template, own, deadline, file), own
        except BaseException:
            own.remove()
            raise

    def _template(self, request: KernelRequest) -> Branch:
        """The template for a request, made if there is none."""
        key = request.warm_key
        with self._lock:
            zygote = self._zygote(request)
            template = zygote.templates.get(key.preload)
            if template is None:
                template = self._grow(zygote, key.preload)
                zygote.templates[key.preload] = template
            return template

    def _zygote(self, request: KernelRequest) -> Zygote:
        """The zygote for a request, made if there is none; the lock is held."""
        key = request.warm_key
        zygote = self._zygotes.get((key.spec, key.startup_env))
        if zygote is not None and not zygote.fresh():
            self._end_zygote(key)
            zygote = None
        if zygote is None:
            zygote = _start_zygote(request, self._timeout, debugger=self._debugger)
            self._zygotes[(key.spec, key.startup_env)] = zygote
        return zygote

    def _grow(self, zygote: Zygote, preload: tuple[str, ...]) -> Branch:
        """Fork a template; a module that cannot be imported ahead is left out of the next try."""
        while True:
            modules = [name for name in preload if name not in zygote.left_out]
            template = zygote.fork_template(modules)
            try:
                bad = template.hear_of_imports()
                if bad is None:
                    template.left_out = {
                        name: why for name, why in zygote.left_out.items() if name in preload
                    }
                    return template
                zygote.left_out.update(bad)
            finally:
                if not template.pid:
                    template.end()

    def _discard(self, key: WarmKey) -> None:
        """Give up a template that does not answer, and its zygote if that is gone too."""
        with self._lock:
            zygote = self._zygotes.get((key.spec, key.startup_env))
            if zygote is None:
                return
            template = zygote.templates.pop(key.preload, None)
            if template is not None:
                template.end()
            else:
                self._end_zygote(key)
            if not zygote.alive:
                self._end_zygote(key)

    def _end_zygote(self, key: WarmKey) -> None:
        zygote = self._zygotes.pop((key.spec, key.startup_env), None)
        if zygote is not None:
            zygote.wither()
            self._withered.append(zygote)


def _fork_process(
    template: Branch, connection: Connection, deadline: float, front_end: Path | None = None
) -> ForkedProcess:
    """Fork an instance and wait until its kernel serves.

    A front end's kernel uses that connection file, and its log goes where the front end's does.
    """
    ready, answer = os.pipe()
    try:
        log = _own_stderr() if front_end else None
        if log is None:
            log = os.open(connection.folder / "start.log", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            order = {"do": "fork", "file": str(connection.file), "folder": str(connection.folder)}
            if front_end:
                given = connection.folder / "launch.json"
                order.update(file=str(front_end), launch=str(given))
            forked = template.ask(order, (answer, log))
        finally:
            os.close(log)
            os.close(answer)
        process = ForkedProcess(int(forked["pid"]), template)
        try:
            wait_for_ready(ready, deadline)
        except BaseException:
            process.kill()
            process.close()
            raise
    finally:
        os.close(ready)
    return process


def _own_stderr() -> int | None:
    try:
        return os.dup(2)
    except OSError:  # a server without one
        return None


def _start_zygote(request: KernelRequest, timeout: float, *, debugger: bool) -> Zygote:
    """Start an interpreter's zygote and wait until it has imported what a kernel needs.

    Raises:
        KernelStartError: It did not come up; the message says what it printed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = new_connection()
    log = connection.folder / "start.log"
    with theirs, log.open("wb") as errors:
        try:
            popen = subprocess.Popen(
                [
                    *(*request.spec.argv, str(ZYGOTE), str(theirs.fileno())),
                    *(("debugger",) if debugger else ()),
                ],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                cwd=connection.folder,
                env=request.environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as e:
            ours.close()
            connection.remove()
            raise KernelStartError(f"{request.spec.argv[0]!r} cannot be started: {e}") from e
    zygote = Zygote(popen, Branch(ours), connection)
    try:
        word = zygote.branch.hear(timeout)
    except TreeBroken as e:
        said = tail(log)
        zygote.end()
        raise KernelStartError(f"the kernel zygote did not start: {e}{said}") from e
    zygote.branch.pid = int(word["pid"])
    zygote.branch.package_folders = _stamps(word["folders"])
    return zygote


def _stamps(folders: Iterable[str]) -> dict[str, int]:
    """When each folder of packages was last changed: installing or upgrading one changes it."""
    stamps = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            stamps[folder] = Path(folder).stat().st_mtime_ns
    return stamps
