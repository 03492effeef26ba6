"""Kernels ready before they are asked for: lease one, use it once, give it back to be ended.

    lease(request) ──▶ ready kernel of its warm key ──adopt──▶ session ──▶ retire(session)
          │                    ▲                                              │
          └── none: start one  └──── refill (a thread)      clear (another) ◀─┘

A kernel is never used twice: isolation is by construction, not by cleaning.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import final

import attrs

from ductaflow_kernels.errors import (
    KernelError,
    KernelStartError,
    LeaseCancelled,
    PoolClosed,
    UnmanagedKernel,
)
from ductaflow_kernels.processes.machine import check_files, start_thread
from ductaflow_kernels.session.observer import close_observer
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.sources.plain import PlainKernels
from ductaflow_kernels.sources.spawned import ColdSource, KernelSource, PrespawnedSource
from ductaflow_kernels.spec import KernelRequest, WarmKey

MAX_KEYS = 4  # kinds of kernel kept ready at once; the least recently leased one goes first

CANCEL_POLL = 0.1  # seconds between questions whether a lease is still wanted


@final
@attrs.define(eq=False)
class _Shelf:
    """The ready kernels of one warm key."""

    request: KernelRequest
    ready: deque[KernelSession] = attrs.field(factory=deque)
    starting: int = 0
    waiting: int = 0  # leases, each for one of those that are starting
    failed: bool = False  # no start ahead until a lease has shown that it works again


@final
class KernelPool:
    """Hands out fresh kernels, and keeps some started in advance.

    Safe to use from several threads; a forked child must make its own.

    Args:
        spare: Ready kernels kept for each kind that is in use.
        workers: How many kernels work at once, if it is known; else the most there have been so
            far, rounded up to a power of two. Their numerical libraries get the cores divided by
            it as threads, unless the request's environment says otherwise.
        managed: The source of managed kernels; by default the fastest that this system has.
        cold: The source of all others.
    """

    def __init__(
        self,
        *,
        spare: int = 2,
        workers: int = 1,
        managed: KernelSource | None = None,
        cold: KernelSource | None = None,
    ) -> None:
        self._spare = spare
        self._workers = workers
        self._cold: KernelSource = cold or ColdSource()
        self._managed: KernelSource = managed or best_source()
        self._plain = PlainKernels()
        self._shelves: dict[WarmKey, _Shelf] = {}
        self._leased: set[KernelSession] = set()
        self._retired: list[KernelSession] = []
        self._reserved: list[int] = []
        self._changed = threading.Condition()
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def expect(self, request: KernelRequest) -> None:
        """Say that a request like this one is about to come; returns at once."""
        if request.spec.managed and not self._closed:
            start_thread("ductaflow-expect", self._managed.expect, self._sized(request))

    @contextmanager
    def reserve(self, workers: int) -> Iterator[None]:
        """Be ready for so many kernels at once, for as long as the block lasts."""
        with self._changed:
            self._reserved.append(workers)
        try:
            yield
        finally:
            with self._changed:
                self._reserved.remove(workers)

    def lease(
        self, request: KernelRequest, cancelled: Callable[[], bool] | None = None
    ) -> KernelSession:
        """A kernel that nobody has used, in the folder and environment of the request.

        Args:
            request: What is wanted.
            cancelled: Asked every tenth of a second while a kernel must be waited for; once it is
                true, the wait is over.

        Raises:
            KernelStartError: It did not come up.
            LeaseCancelled: `cancelled` said so.
            PoolClosed: The pool is closed.
        """
        with self._changed:
            if len(self._leased) >= self._at_once():
                # In powers of two: every other value is another warm key, and so another tree.
                self._workers = 1 << len(self._leased).bit_length()
        request = self._sized(request)
        if not request.spec.managed:
            return self._lease(self._cold, request, cancelled)
        why = self._plain.why(request)
        if not why:
            try:
                return self._lease(self._managed, request, cancelled)
            except UnmanagedKernel as e:
                if not e.plain:
                    raise
                why = self._plain.learn(request, e)
        return self._lease_plain(request, why, cancelled)

    def _lease_plain(
        self, request: KernelRequest, why: str, cancelled: Callable[[], bool] | None
    ) -> KernelSession:
        """A kernel that its own ipykernel starts, for an interpreter that ours do not fit."""
        plain = attrs.evolve(request, spec=request.spec.plain(), preload=())
        try:
            session = self._lease(self._cold, plain, cancelled)
        except KernelStartError as e:
            raise KernelStartError(f"{why}. One of these did not start: {e}") from e
        session.plain = why
        return session

    def _lease(
        self,
        source: KernelSource,
        request: KernelRequest,
        cancelled: Callable[[], bool] | None,
    ) -> KernelSession:
        request = source.fitted(request)
        session = self._take(request, cancelled) if source.ahead else None
        if session is None:
            try:
                session = _start(source, request, cancelled)
            except UnmanagedKernel:
                with self._changed:
                    self._shelf(request).failed = True  # there is nothing to start ahead
                raise
        with self._changed:
            closed = self._closed
            if not closed:
                self._leased.add(session)
                if source.ahead:
                    self._shelf(request).failed = False
                    self._wake()
        if closed:
            session.close()
            raise PoolClosed("this kernel pool is closed")
        if source.ahead:
            try:
                session.adopt(request.cwd, request.environment, request.observe)
            except BaseException:
                self.retire(session)
                raise
        return session

    def retire(self, session: KernelSession) -> None:
        """End a leased kernel; what belongs to it is removed soon after. Twice does no harm."""
        with self._changed:
            if session not in self._leased:
                return
            self._leased.discard(session)
            self._retired.append(session)
            self._wake()
        session.kill()

    def close(self) -> None:
        """End every kernel, leased ones too. Twice does no harm."""
        with self._changed:
            self._closed = True
            ready = [session for shelf in self._shelves.values() for session in shelf.ready]
            sessions = [*self._retired, *self._leased, *ready]
            self._retired.clear()
            self._leased.clear()
            self._shelves.clear()
            threads = list(self._threads.values())
            self._changed.notify_all()
        for session in sessions:
            session.close()
        self._managed.close()  # now: a thread may be waiting for a kernel that hangs
        self._cold.close()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def idle(self) -> int:
        """How many kernels are ready now."""
        with self._changed:
            return sum(len(shelf.ready) for shelf in self._shelves.values())

    def __enter__(self) -> KernelPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sized(self, request: KernelRequest) -> KernelRequest:
        threads = _thread_limits(self._at_once())
        return attrs.evolve(request, env={**threads, **request.env}) if threads else request

    def _at_once(self) -> int:
        return max([self._workers, *self._reserved])

    # --- the shelves; the condition is held ----------------------------------------------------

    def _take(
        self, request: KernelRequest, cancelled: Callable[[], bool] | None
    ) -> KernelSession | None:
        """A ready kernel, or one that is about to be; None if none is left for this lease."""
        with self._changed:
            while True:
                if self._closed:
                    raise PoolClosed("this kernel pool is closed")
                shelf = self._shelf(request)
                while shelf.ready:
                    session = shelf.ready.popleft()
                    if session.process.poll() is None and self._managed.fresh(session, request):
                        return session
                    self._retired.append(session)  # it died while it waited, or is overtaken
                if shelf.starting <= shelf.waiting:
                    return None
                shelf.waiting += 1
                try:
                    self._changed.wait(CANCEL_POLL)
                finally:
                    shelf.waiting -= 1
                if cancelled is not None and cancelled():
                    raise LeaseCancelled("the wait for a kernel was cancelled")

    def _shelf(self, request: KernelRequest) -> _Shelf:
        key = request.warm_key
        shelf = self._shelves.pop(key, None) or _Shelf(request)
        shelf.request = request  # others of its key may have another environment
        self._shelves[key] = shelf  # the most recently used is last
        return shelf

    def _wake(self) -> None:
        for name, work in (
            ("ductaflow-refill-1", KernelPool._refill_once),
            ("ductaflow-refill-2", KernelPool._refill_once),
            ("ductaflow-clear", KernelPool._clear_once),
        ):
            if name not in self._threads or not self._threads[name].is_alive():
                thread = start_thread(name, _repeat, work, weakref.ref(self))
                if thread is not None:
                    self._threads[name] = thread
        self._changed.notify_all()

    def _wanted(self) -> _Shelf | None:
        for shelf in reversed(self._shelves.values()):
            wanted = max([self._spare, *self._reserved])
            if not shelf.failed and len(shelf.ready) + shelf.starting < wanted:
                return shelf
        return None

    def _useless(self) -> list[KernelSession]:
        useless, self._retired = self._retired, []
        while len(self._shelves) > MAX_KEYS:
            oldest = next(iter(self._shelves))
            useless += self._shelves.pop(oldest).ready
        return useless

    # --- threads: two make kernels, and one ends them, which takes as long ---------------------

    def _refill_once(self) -> bool:
        """Wait until a kernel is wanted, and start one; whether to go on."""
        with self._changed:
            shelf = self._wanted()
            if shelf is None or self._closed:
                return self._rest()
            shelf.starting += 1
        self._start_ahead(shelf)
        return True

    def _clear_once(self) -> bool:
        """Wait until kernels are of no more use, and end them; whether to go on."""
        with self._changed:
            useless = self._useless()
            if not useless:
                return self._rest()
        for session in useless:
            try:
                if session.imported:
                    self._managed.learn(session, session.imported)
            finally:
                session.close()
        return True

    def _rest(self) -> bool:
        if not self._closed:
            self._changed.wait(1.0)
        return not self._closed

    def _start_ahead(self, shelf: _Shelf) -> None:
        session = None
        try:
            check_files()
            session = self._managed.start(shelf.request)
        except (KernelError, OSError, RuntimeError):
            # The next lease starts one itself, and tells its caller what is wrong.
            shelf.failed = True
        finally:  # leases wait for it
            with self._changed:
                shelf.starting -= 1
                kept = self._shelves.get(shelf.request.warm_key) is shelf and not self._closed
                if kept and session is not None:
                    shelf.ready.append(session)
                    session = None
                self._changed.notify_all()
        if session is not None:
            session.close()


def _start(
    source: KernelSource, request: KernelRequest, cancelled: Callable[[], bool] | None
) -> KernelSession:
    """Start a kernel, unless that takes longer than it is wanted."""
    check_files()
    if cancelled is None:
        return source.start(request)
    started: Future[KernelSession] = Future()

    def start() -> None:
        try:
            started.set_result(source.start(request))
        except BaseException as e:
            started.set_exception(e)

    if start_thread("ductaflow-start", start) is None:
        return source.start(request)  # it cannot be cancelled then
    while not wait([started], CANCEL_POLL).done:
        if cancelled():
            started.add_done_callback(_close_unwanted)
            raise LeaseCancelled("the wait for a kernel was cancelled")
    return started.result()


def _close_unwanted(started: Future[KernelSession]) -> None:
    if started.exception() is None:
        started.result().close()


def _repeat(work: Callable[[KernelPool], bool], pool: weakref.ref[KernelPool]) -> None:
    while True:
        alive = pool()
        if alive is None or not work(alive):
            return
        del alive


# What the numerical libraries take for the number of threads they may use.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def _thread_limits(workers: int) -> dict[str, str]:
    """Variables that keep `workers` kernels from fighting over the cores; none for a single one."""
    if workers <= 1:
        return {}
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, cores // workers)))


def best_source() -> KernelSource:
    """The fastest source of managed kernels that this system has."""
    return ForkSource() if forking_works() else PrespawnedSource()


_shared: tuple[int, KernelPool] | None = None
_shared_lock = threading.Lock()


def shared_pool() -> KernelPool:
    """This process's own pool, made when first asked for and closed when the process ends."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), KernelPool())
            atexit.register(close_shared_pool)
        return _shared[1]


def close_shared_pool() -> None:
    """End the shared pool's kernels; the next use makes a new one."""
    global _shared
    with _shared_lock:
        mine = _shared is not None and _shared[0] == os.getpid()
        pool = _shared[1] if _shared is not None and mine else None
        _shared = None
    if pool is not None:
        pool.close()
        close_observer()
