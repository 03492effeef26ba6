"""Kernels forked from a warm template: the source that makes a fresh kernel cost milliseconds."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, final

import attrs

from ductaflow_kernels.errors import KernelStartError, UnmanagedKernel
from ductaflow_kernels.processes.connection import Connection, new_connection
from ductaflow_kernels.processes.machine import has_proc
from ductaflow_kernels.session.observer import observer_address
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.spawned import START_TIMEOUT, as_at_start, give_up, spawn
from ductaflow_kernels.sources.tree import (
    Branch,
    ForkedProcess,
    TreeBroken,
    TreeReplaced,
    Zygote,
    fork_process,
    start_zygote,
)
from ductaflow_kernels.spec import KernelRequest, KernelSpec

Forked = TypeVar("Forked")
MAX_ZYGOTES = 4  # of other interpreters, or of variables that count from the start
MAX_TEMPLATES = 8  # an edited import makes another; the least recently used is ended
# They act on the shell when they are imported, or belong to the kernel itself.
NEVER_LEARNT = frozenset({"matplotlib_inline", "IPython", "ipykernel", "__main__", "__mp_main__"})
NEVER_LEARNT |= {"pexpect", "ptyprocess"}  # with which IPython runs a `!` line
NEVER_LEARNT |= {"ductacore", "ductaflow"}  # a project may have its own, and adds it to the path


def forking_works() -> bool:
    """Whether this system has what forked kernels need: Linux with pidfd (5.3) and `/proc`."""
    if not (sys.platform.startswith("linux") and hasattr(os, "pidfd_open") and has_proc()):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an older kernel, or a sandbox that refuses it
        return False
    return True


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
        self._retired: list[Zygote] = []  # replaced; their kernels may be in use
        self._lock = threading.Lock()
        self._closed = False

    def start(self, request: KernelRequest) -> KernelSession:
        """A kernel forked from its flow's template; see `KernelSource`."""
        try:
            return _from_a_whole_tree(lambda: self._fork(request))
        except UnmanagedKernel:
            raise
        except KernelStartError:
            self._check_open()
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
        if not zygotes:
            return
        (zygote,) = zygotes
        known = template.learnt | set(zygote.left_out)
        new = [
            name
            for name in imported
            if name not in known and name.partition(".")[0] not in NEVER_LEARNT
        ]
        if not new:
            return
        with contextlib.suppress(TreeBroken):  # the next lease will replace it
            bad = template.learn(new)
            if bad is not None:
                zygote.left_out.update(bad)
                with self._lock:
                    self._forget(template)

    def fitted(self, request: KernelRequest) -> KernelRequest:
        """See `KernelSource`."""
        with self._lock:
            known = [
                template
                for zygote in self._zygotes.values()
                for (preload, _), template in zygote.templates.items()
                if preload == request.preload
            ]
        if any(template.differs_in(request.cwd) for template in known):
            return attrs.evolve(request, preload=())
        return request

    def fresh(self, session: KernelSession, request: KernelRequest) -> bool:
        """See `KernelSource`."""
        process = session.process
        if request.observe and session.observer != observer_address():
            return False  # nobody would answer it any more
        if isinstance(process, ForkedProcess):
            return process.template.suits(request.environment)
        return as_at_start(session)

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
        return _from_a_whole_tree(lambda: self._launch(request, file))

    def close(self) -> None:
        """End the tree and every kernel of it; a start that is under way fails."""
        self._closed = True
        for zygote in list(self._zygotes.values()):
            zygote.hang_up()  # ends what the holder of the lock may be waiting for
        with self._lock:
            zygotes = [*self._zygotes.values(), *self._retired]
            self._zygotes.clear()
            self._retired.clear()
        for zygote in zygotes:
            zygote.end()

    # --- forking ------------------------------------------------------------------------------

    def _fork(self, request: KernelRequest) -> KernelSession:
        template = self._fitting_template(request)
        connection = new_connection()
        process: ForkedProcess | None = None
        session: KernelSession | None = None
        try:
            connection.write()
            observer = observer_address() if request.observe else ""
            process = self._fork_off(template, connection, observer=observer)
            session = KernelSession(
                request.spec, process, connection, self.name, template.left_out,
                observer=observer, info=template.info,
            )  # fmt: skip
            session.open(self._timeout)
            if session.greets:
                template.info = session.info
        except BaseException as e:
            said = give_up(connection, process, session)
            if isinstance(e, KernelStartError) and not isinstance(e, TreeBroken | UnmanagedKernel):
                raise KernelStartError(f"a forked kernel did not start: {e}{said}") from e
            raise
        return session

    def _launch(self, request: KernelRequest, file: Path) -> tuple[ForkedProcess, Connection]:
        template = self._fitting_template(request)
        own = new_connection()
        try:
            given = json.dumps({"cwd": str(request.cwd), "env": request.environment})
            (own.folder / "launch.json").write_text(given, encoding="utf-8")
            return self._fork_off(template, own, front_end=file), own
        except BaseException:
            own.remove()
            raise

    def _fork_off(
        self,
        template: Branch,
        connection: Connection,
        *,
        front_end: Path | None = None,
        observer: str = "",
    ) -> ForkedProcess:
        try:
            return fork_process(
                template, connection, self._timeout, front_end=front_end, observer=observer
            )
        except TreeBroken:
            self._discard(template)
            raise

    # --- zygotes and templates ----------------------------------------------------------------

    def _fitting_template(self, request: KernelRequest) -> Branch:
        """The template for a request, which is that of no imports where they would be others."""
        template = self._template(request)
        fitted = self.fitted(request)
        return template if fitted is request else self._template(fitted)

    def _template(self, request: KernelRequest) -> Branch:
        """The template for a request, made if there is none that suits it."""
        with self._lock:
            zygote = self._zygote(request)
            template = zygote.template_for(request)
            if template is None:
                try:
                    template = self._grow(zygote, request)
                except (TreeBroken, UnmanagedKernel):
                    self._retire(zygote)
                    raise
                zygote.add_template(template, request.preload, MAX_TEMPLATES)
            return template

    def _zygote(self, request: KernelRequest) -> Zygote:
        """The zygote for a request, made if there is none that suits it; the lock is held."""
        key = (request.spec, request.warm_key.startup_env)
        zygote = self._zygotes.pop(key, None)
        if zygote is not None:
            self._zygotes[key] = zygote  # the most recently used is last
            if not zygote.suits(request.environment):
                self._retire(zygote)
                zygote = None
        if zygote is None:
            self._check_open()
            zygote = start_zygote(request, self._timeout, debugger=self._debugger)
            self._zygotes[key] = zygote
            while len(self._zygotes) > MAX_ZYGOTES:
                self._retire(next(iter(self._zygotes.values())))
        self._check_open()
        return zygote

    def _grow(self, zygote: Zygote, request: KernelRequest) -> Branch:
        """Fork a template; a module that cannot be imported ahead is left out of the next try."""
        preload = request.preload
        while True:
            modules = [name for name in preload if name not in zygote.left_out]
            template = zygote.fork_template(modules, request.environment)
            try:
                bad = template.hear_of_imports()
            except BaseException:
                template.end()
                raise
            if bad is None:
                template.left_out = {
                    name: why for name, why in zygote.left_out.items() if name in preload
                }
                return template
            template.end()
            zygote.left_out.update(bad)

    def _discard(self, template: Branch) -> None:
        """Give up a template that does not answer, and its zygote if that is gone too."""
        with self._lock:
            zygote = self._forget(template)
            if zygote is not None and not zygote.alive:
                self._retire(zygote)

    def _forget(self, template: Branch) -> Zygote | None:
        """End a template; its zygote, unless another thread was first. The lock is held."""
        for zygote in self._zygotes.values():
            for key, known in zygote.templates.items():
                if known is template:
                    del zygote.templates[key]
                    template.end()
                    return zygote
        return None

    def _retire(self, zygote: Zygote) -> None:
        """Give up a zygote, but for the kernels of it that are in use; the lock is held."""
        for key, known in self._zygotes.items():
            if known is zygote:
                del self._zygotes[key]
                break
        zygote.retire()
        for old in [old for old in self._retired if old.idle()]:
            self._retired.remove(old)
            old.end()
        self._retired.append(zygote)

    def _check_open(self) -> None:
        if self._closed:
            raise KernelStartError("no kernel starts any more: their source is closed")


def _from_a_whole_tree(fork: Callable[[], Forked]) -> Forked:
    """Fork, once more if a branch was found broken: it has been given up."""
    try:
        return _from_what_stands(fork)
    except TreeBroken:
        return _from_what_stands(fork)


def _from_what_stands(fork: Callable[[], Forked]) -> Forked:
    """Fork, again whenever another thread has replaced the template meanwhile."""
    while True:
        with contextlib.suppress(TreeReplaced):
            return fork()
