"""The processes of the fork tree as the conductor sees them: zygote, templates, forked kernels.

See `ductaflow_inside.zygote` for what they do.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow_kernels.errors import KernelStartError
from ductaflow_kernels.interpreters import START
from ductaflow_kernels.processes.connection import Connection, new_connection
from ductaflow_kernels.processes.process import (
    UNKNOWN_EXIT,
    Patience,
    hold_lifeline,
    open_pidfd,
    read_peak_memory,
    signal_group,
)
from ductaflow_kernels.sources.plain import unmanaged
from ductaflow_kernels.sources.spawned import tail, wait_for_ready
from ductaflow_kernels.sources.surroundings import (
    VOLATILE,
    as_before,
    changed,
    matter,
    shadowed,
    stamps,
)
from ductaflow_kernels.sources.watching import Watch
from ductaflow_kernels.spec import KernelRequest

PRELOAD_TIMEOUT = 30.0  # seconds for which the import of one module may do nothing
ANSWER_TIMEOUT = 10.0  # seconds for a fork, or for taking an exit code
MAX_PACKET = 1 << 20


class TreeBroken(KernelStartError):
    """A zygote or template is gone or does not answer."""


class TreeReplaced(TreeBroken):
    """Another thread has ended it, since it was outdated or broken."""


@final
@attrs.define(eq=False)
class Branch:
    """A process of the tree, zygote or template, and the channel to it.

    Attributes:
        channel: Our end of the socket.
        kernels: Those that were forked in its whole tree.
        pid: Its process id, known once it is ready.
        left_out: Modules that a template was to import and could not, and why.
        package_folders: When each folder of packages was last changed, as of its zygote's start.
        environment: The environment in which it imports.
        read: Names of the variables that its imports looked up.
        libraries: Files of the native libraries that they loaded.
        ahead: Top-level names of the modules that a template has imported for a flow.
        near: Names that its imports have looked for in the working directory.
        reads: Files outside the packages that they have read or looked for; see `as_before`.
        learnt: Modules that a template was told to import later on.
        forked: Whether a template has forked a kernel.
        settled: Whether it has done what only kernels after the first are to wait for.
        info: What its kernels answer to `kernel_info_request`, once one that greets has been asked.
    """

    channel: socket.socket
    kernels: weakref.WeakSet[ForkedProcess]
    pid: int = 0
    left_out: dict[str, str] = attrs.field(factory=dict)
    package_folders: dict[str, int] = attrs.field(factory=dict)
    environment: dict[str, str] = attrs.field(factory=dict, repr=False)
    read: frozenset[str] = attrs.field(default=frozenset())
    libraries: tuple[str, ...] = attrs.field(default=(), repr=False)
    ahead: frozenset[str] = attrs.field(default=frozenset(), repr=False)
    near: frozenset[str] = attrs.field(default=frozenset(), repr=False)
    reads: Mapping[str, list[int]] = attrs.field(factory=dict, repr=False)
    learnt: set[str] = attrs.field(factory=set)
    forked: bool = False
    settled: bool = False
    ended: bool = False
    info: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    _parent: Branch | None = attrs.field(default=None, repr=False)
    _watch: Watch | None = attrs.field(default=None, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def ask(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        """Send an order and wait for its answer.

        Raises:
            TreeBroken: It is gone, or does not answer in time.
        """
        with self._lock:
            try:
                self.tell(order, fds)
                return self.hear(ANSWER_TIMEOUT)
            except TreeBroken:
                self.channel.close()  # a late answer must not be taken for the next one's
                raise

    def tell(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send an order."""
        try:
            socket.send_fds(self.channel, [json.dumps(order).encode()], fds)
        except OSError as e:
            raise self._broken(f"is gone: {e}") from e

    def hear(self, timeout: float) -> dict[str, Any]:
        """Wait for a packet."""
        try:
            self.channel.settimeout(timeout)
            data = self.channel.recv(MAX_PACKET)
        except (OSError, MemoryError) as e:
            raise self._broken(f"does not answer: {e}") from e
        if not data:
            raise self._broken("is gone")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _broken(self, why: str) -> TreeBroken:
        kind = TreeReplaced if self.ended else TreeBroken
        return kind(f"the kernel template (pid {self.pid}) {why}")

    def hear_from(self, pid: int, timeout: float) -> dict[str, Any]:
        """Wait for a packet while a process works for it.

        Args:
            pid: The process.
            timeout: Seconds for which it may do nothing.

        Raises:
            TreeBroken: It is gone, or hangs.
        """
        patience = Patience(pid, timeout)
        waiting = select.poll()
        waiting.register(self.channel, select.POLLIN)
        while seconds := patience.left():
            if waiting.poll(seconds * 1000):
                return self.hear(ANSWER_TIMEOUT)
        raise TreeBroken(f"process {pid} hangs: it did nothing for {timeout:g} s")

    def hear_of_imports(self) -> dict[str, str] | None:
        """Wait while a template imports; None if all went well, else what did not, and why.

        Raises:
            TreeBroken: It is gone, and not on account of an import.
            UnmanagedKernel: Its kernels cannot be ours.
        """
        importing = ""
        try:
            while True:
                word = self.hear_from(self.pid, PRELOAD_TIMEOUT)
                importing = word.get("importing", importing)
                self.pid = word.get("pid", self.pid)
                if word.get("ready"):
                    self.learn_surroundings(word)
                    return None
                if "unfit" in word:
                    raise unmanaged(word)
                if "bad" in word:
                    return {word["bad"]: word["why"]}
        except TreeBroken:
            if not importing:
                raise
            # The import hung, or took the process with it.
            return {importing: "hangs or crashes when it is imported ahead"}

    def learn(self, modules: Sequence[str]) -> dict[str, str] | None:
        """Have a template import more, for the kernels that it will fork; see `hear_of_imports`."""
        with self._lock:
            self.learnt.update(modules)
            self.settled = True
            self.tell({"do": "learn", "modules": list(modules)})
            return self.hear_of_imports()

    def settle(self) -> None:
        """Have a template that has forked its first kernel get ready for many.

        Raises:
            TreeBroken: It is gone.
        """
        if self.forked and not self.settled:
            self.learn(())

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether all that it has imported would be the same in this environment, and now.

        It would not once a package has been installed, upgraded or removed, or a variable that an
        import can have seen has another value.
        """
        different = changed(self.environment, environment)
        return not matter(different, self.read, self.libraries) and not self.outdated()

    def outdated(self) -> bool:
        """Whether packages, or files that its imports have read, have changed since it was made."""
        if stamps(self.package_folders) != self.package_folders or not as_before(self.reads):
            return True
        # What its zygote has read is among what it has itself.
        watches = (self._watch, self._parent._watch if self._parent is not None else None)
        return any(watch is not None and watch.changed() for watch in watches)

    def differs_in(self, folder: Path) -> bool:
        """Whether its imports would have found something else in this working directory."""
        return shadowed(folder, self.ahead) or any((folder / name).exists() for name in self.near)

    def learn_surroundings(self, word: Mapping[str, Any]) -> None:
        """Take in what it says that its imports have looked up, and loaded."""
        # Other threads may be looking at them: what they look at never changes.
        self.read = self.read | (frozenset(word["read"]) - VOLATILE)
        self.libraries = tuple(word["libraries"])
        self.ahead = frozenset(word.get("ahead", ()))
        self.near = frozenset(word["near"])
        with open(word["files"], encoding="utf-8", errors="surrogateescape") as file:
            files = json.load(file)
        self.reads = {**self.reads, **files["reads"]}
        before = self._watch
        self._watch = Watch(files["folders"], files["files"], files["since"])
        if before is not None:
            before.close()

    def end(self) -> None:
        """End it, from any thread; kernels that it has forked live on."""
        self.ended = True
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)  # wakes whoever listens
        self.channel.close()
        if self._watch is not None:
            self._watch.close()
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
    # By what they import, and a number: one environment may call for another of the same imports.
    templates: dict[tuple[tuple[str, ...], int], Branch] = attrs.field(factory=dict)
    left_out: dict[str, str] = attrs.field(factory=dict)  # module → why it is not imported ahead
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    @property
    def kernels(self) -> weakref.WeakSet[ForkedProcess]:
        """Those that were forked in its tree."""
        return self.branch.kernels

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.popen.poll() is None

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether it lives, and is what a new one in this environment would be."""
        return self.alive and self.branch.suits(environment)

    def idle(self) -> bool:
        """Whether no kernel of it is left."""
        return all(process.ended() for process in self.kernels)

    def template_for(self, request: KernelRequest) -> Branch | None:
        """The template that suits a request, if there is one; those that are outdated are ended."""
        for key, template in list(self.templates.items()):
            if template.outdated():
                self.templates.pop(key).end()
            elif key[0] == request.preload:
                try:
                    template.settle()
                except TreeBroken:
                    self.templates.pop(key).end()
                    continue
                if template.suits(request.environment):
                    self.templates[key] = self.templates.pop(key)  # the most recently used is last
                    return template
        return None

    def add_template(self, template: Branch, preload: tuple[str, ...], limit: int) -> None:
        """Keep a template; of more than so many the least recently used is ended."""
        self.templates[preload, next(self.numbers)] = template
        while len(self.templates) > limit:
            self.templates.pop(next(iter(self.templates))).end()

    def fork_template(self, modules: Sequence[str], environment: dict[str, str]) -> Branch:
        """A template that begins to import the modules; it says so on its channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                order = {
                    "do": "template",
                    "preload": list(modules),
                    "folder": str(self.connection.folder),
                    "env": environment,
                }
                self.branch.tell(order, (theirs.fileno(),))
            except TreeBroken:
                ours.close()
                raise
        folders = self.branch.package_folders
        return Branch(
            ours, self.kernels, package_folders=folders, environment=environment, parent=self.branch
        )

    def retire(self) -> None:
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
        self.hang_up()
        self.retire()

    def hang_up(self) -> None:
        """Let go of the lifeline, which kills all that hangs on it; from any thread."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()


@final
class ForkedProcess:
    """A kernel's process, a child of a template."""

    def __init__(self, pid: int, template: Branch) -> None:
        self.pid = pid
        self.sentinel = open_pidfd(pid)
        if self.sentinel is None:
            signal_group(pid, signal.SIGKILL)
            raise KernelStartError("there is no file descriptor left to watch a kernel with")
        self.template = template
        self._code: int | None = None
        self._peak: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """See `KernelProcess`."""
        with self._lock:
            if self._code is None and self.ended():
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
            self.ended(ANSWER_TIMEOUT)
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

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether its process has ended, or does in so many seconds."""
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


def fork_process(
    template: Branch,
    connection: Connection,
    timeout: float,
    *,
    front_end: Path | None = None,
    observer: str = "",
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
            if observer:
                order["observer"] = observer
            forked = template.ask(order, (answer, log))
        finally:
            os.close(log)
            os.close(answer)
        template.forked = True
        process = ForkedProcess(int(forked["pid"]), template)
        template.kernels.add(process)
        try:
            wait_for_ready(ready, process.pid, timeout)
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


def start_zygote(request: KernelRequest, timeout: float, *, debugger: bool) -> Zygote:
    """Start an interpreter's zygote and wait until it has imported what a kernel needs.

    Raises:
        UnmanagedKernel: The interpreter's kernels cannot be ours.
        KernelStartError: It did not come up; the message says what it printed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = new_connection()
    log = connection.folder / "start.log"
    with theirs, log.open("wb") as errors:
        try:
            popen = subprocess.Popen(
                [
                    *(*request.spec.argv, str(START), "zygote", str(theirs.fileno())),
                    *(("debugger",) if debugger else ()),
                ],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                bufsize=0,
                cwd=connection.folder,
                env=request.environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as e:
            ours.close()
            connection.remove()
            raise KernelStartError(f"{request.spec.argv[0]!r} cannot be started: {e}") from e
    hold_lifeline(popen)
    kernels: weakref.WeakSet[ForkedProcess] = weakref.WeakSet()
    zygote = Zygote(popen, Branch(ours, kernels, environment=request.environment), connection)
    try:
        word = zygote.branch.hear_from(popen.pid, timeout)
    except TreeBroken as e:
        said = tail(log)
        zygote.end()
        raise KernelStartError(f"the kernel zygote did not start: {e}{said}") from e
    if "unfit" in word:
        zygote.end()
        raise unmanaged(word)
    zygote.branch.pid = int(word["pid"])
    zygote.branch.package_folders = stamps(word["folders"])
    zygote.branch.learn_surroundings(word)
    return zygote
