"""Warm kernels for whatever starts its kernels through jupyter_client, as JupyterLab does.

    front end ──▶ KernelManager ──▶ WarmProvisioner ──▶ a fork of this process's warm template
                                          └── where that cannot be ──▶ a process as usual

The front end chooses the ports and the key and connects by itself, so a kernel is not taken from
those that are ready: it is forked when it is asked for, with what it imports imported already.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import select
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import List, Unicode

from ductaflow_kernels.errors import KernelStartError
from ductaflow_kernels.processes.connection import Connection
from ductaflow_kernels.processes.process import KILL
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.sources.tree import ForkedProcess
from ductaflow_kernels.spec import KernelRequest, KernelSpec

PROVISIONER = "ductaflow-warm-provisioner"  # the entry point's name
DEFAULT_PRELOAD = ("numpy", "pandas", "matplotlib.pyplot")
KILL_TIMEOUT = 5.0  # seconds; a process in the middle of disk input may take that long to go
SHUTDOWN_MOMENT = 0.1  # seconds
UNDERSTOOD = frozenset({"cwd", "env", "kernel_id", "extra_arguments"})  # launch options


class WarmProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Forks kernels from a template that has imported ipykernel and the preloaded modules.

    A kernelspec asks for it in its metadata, as `ductaflow-kernels install` writes it. Where a
    kernel cannot be forked it is started as usual, and the log says why.

    Attributes:
        preload: Modules to import ahead; what is not installed, or part of a project, is left out.
    """

    preload = List(
        Unicode(), list(DEFAULT_PRELOAD), help="Modules that kernels find imported already."
    ).tag(config=True)

    _kernel: _Kernel | None = None

    @property
    def has_process(self) -> bool:
        """Whether a kernel was launched and its end not yet awaited."""
        return self._kernel is not None or bool(super().has_process)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start a kernel on the connection file that the command names.

        Args:
            cmd: The kernelspec's command, filled in.
            **kwargs: As for `subprocess.Popen`; `cwd` and `env` keep a kernel warm, others do not.

        Returns:
            The connection info.
        """
        why_not = _why_not_warm(cmd, kwargs)
        if not why_not:
            request = _request(cmd, kwargs, tuple(self.preload))
            try:
                self._kernel = await _launch(request, Path(cmd[-1]))
            except KernelStartError as e:
                self.log.warning("no warm kernel, so one is started as usual: %s", e)
        else:
            self.log.info("this kernel is started as usual, not warm: %s", why_not)
        if self._kernel is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self._kernel.pid
        self.cwd = request.cwd
        return self.connection_info

    async def poll(self) -> int | None:
        """The kernel's exit code; None while it lives."""
        if self._kernel is None:
            code: int | None = await super().poll()
            return code
        return await self._kernel.poll()

    async def wait(self) -> int | None:
        """Wait for the kernel's end, and give up what belonged to it."""
        kernel = self._kernel
        if kernel is None:
            code: int | None = await super().wait()
            return code
        await kernel.ended()
        code = await kernel.poll()
        await asyncio.to_thread(kernel.release)
        self._kernel = None
        return code

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel and what it has started."""
        if self._kernel is None:
            await super().send_signal(signum)
        else:
            await self._kernel.signal(signum)

    async def kill(self, restart: bool = False) -> None:
        """End the kernel at once."""
        if self._kernel is None:
            await super().kill(restart=restart)
            return
        await self._kernel.signal(KILL)
        await self._kernel.ended_within(KILL_TIMEOUT)

    async def terminate(self, restart: bool = False) -> None:
        """Ask the kernel's process to end."""
        if self._kernel is None:
            await super().terminate(restart=restart)
        else:
            await self._kernel.signal(signal.SIGTERM)

    async def shutdown_requested(self, restart: bool = False) -> None:  # noqa: ARG002
        """Give the kernel a moment to end, as most do; KernelManager looks every 100 ms only."""
        if self._kernel is not None:
            await self._kernel.ended_within(SHUTDOWN_MOMENT)

    async def cleanup(self, restart: bool = False) -> None:
        """Give up what a kernel that has ended had."""
        if self._kernel is not None and await self._kernel.poll() is not None:
            await asyncio.to_thread(self._kernel.release)
            self._kernel = None
        await super().cleanup(restart=restart)


@final
@attrs.define(eq=False)
class _Kernel:
    """A forked kernel. Any thread and event loop may use it; none is blocked by it.

    Attributes:
        process: Its process.
        files: What lies in its private folder.
    """

    process: ForkedProcess
    files: Connection
    _lock: threading.Lock = attrs.field(factory=threading.Lock)  # an exit code is taken once
    _code: int | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    async def poll(self) -> int | None:
        if self._code is None and self._lives():
            return None
        return await asyncio.to_thread(self._take_exit)

    async def signal(self, signum: int) -> None:
        await asyncio.to_thread(self._signal, signum)

    async def ended(self) -> None:
        """Return once the process has ended."""
        with self._lock:
            sentinel = self.process.sentinel
            if sentinel is None:
                return
            own = os.dup(sentinel)  # a loop has one reader a descriptor, and several may wait
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        try:
            loop.add_reader(own, end.set)
            try:
                await end.wait()
            finally:
                loop.remove_reader(own)
        finally:
            os.close(own)

    async def ended_within(self, seconds: float) -> None:
        """Return once the process has ended, or the time is over."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ended(), seconds)

    def release(self) -> None:
        """Give up its descriptors and files; it has ended."""
        self._take_exit()
        with self._lock:
            self.process.close()
            self.files.remove()

    def end(self) -> None:
        """End it at once, and give it up."""
        self._signal(KILL)
        with self._lock:
            self.process.kill()
        self.release()

    def _lives(self) -> bool:
        with self._lock:
            sentinel = self.process.sentinel
            if sentinel is None:
                return False
            looking = select.poll()  # select.select() has no room for a busy server's descriptors
            looking.register(sentinel, select.POLLIN)
            return not looking.poll(0)

    def _take_exit(self) -> int | None:
        with self._lock:
            if self._code is None:
                self._code = self.process.poll()
            return self._code

    def _signal(self, signum: int) -> None:
        with self._lock:
            self.process.signal(signum)


# --- what is asked for --------------------------------------------------------------------------


def _why_not_warm(cmd: Sequence[str], options: Mapping[str, Any]) -> str:
    """Why a launch cannot be a fork; empty if it can."""
    if not forking_works():
        return "only Linux with pidfd (5.3) has what forked kernels need"
    if len(cmd) < 5 or cmd[-4] != "-m" or cmd[-3] not in ("ipykernel_launcher", "ipykernel"):
        return "its command is not a plain `python -m ipykernel_launcher -f FILE`"
    if cmd[-2] != "-f":
        return "its command has arguments for ipykernel"
    asked = sorted(k for k, v in options.items() if k not in UNDERSTOOD and v not in (None, False))
    if asked:
        return f"it is launched with {', '.join(asked)}"
    if not Path(options.get("cwd") or ".").is_dir():
        return f"there is no folder {options['cwd']}"
    settings = _ipython_settings(cmd[0], options.get("env") or os.environ)
    if settings is not None:
        return f"{settings} is there, which a warm kernel would not read"
    return ""


def _request(
    cmd: Sequence[str], options: Mapping[str, Any], preload: tuple[str, ...]
) -> KernelRequest:
    cwd = Path(options.get("cwd") or ".").absolute()
    env = dict(os.environ if options.get("env") is None else options["env"])
    env["JPY_PARENT_PID"] = str(os.getpid())  # as jupyter_client's launcher sets it
    return KernelRequest(KernelSpec("", tuple(cmd[:-4])), cwd, env, preload)


def _ipython_settings(python: str, env: Mapping[str, str]) -> Path | None:
    """A file with which IPython is configured, if there is any.

    Source: https://ipython.readthedocs.io/en/stable/config/intro.html
    """
    home = Path(env.get("IPYTHONDIR") or Path(env.get("HOME") or Path.home()) / ".ipython")
    profile = home.expanduser() / "profile_default"
    prefix = Path(shutil.which(python) or python).parent.parent
    system = (Path("/usr/local/etc/ipython"), Path("/etc/ipython"))
    for folder in (profile, prefix / "etc/ipython", *system):
        for suffix in ("py", "json"):
            for name in ("ipython_config", "ipython_kernel_config"):
                file = folder / f"{name}.{suffix}"
                if file.exists():
                    return file
    startup = profile / "startup"
    return next((f for p in ("*.py", "*.ipy") for f in sorted(startup.glob(p))), None)


# --- this process's templates -------------------------------------------------------------------

_source: tuple[int, ForkSource] | None = None
_source_lock = threading.Lock()


def _warm_source() -> ForkSource:
    """This process's own; a forked child makes another."""
    global _source
    with _source_lock:
        if _source is None or _source[0] != os.getpid():
            _source = (os.getpid(), ForkSource(debugger=True))
        return _source[1]


async def _launch(request: KernelRequest, file: Path) -> _Kernel:
    # A thread, for the first one waits for the template.
    forking = asyncio.ensure_future(asyncio.to_thread(_fork, request, file))
    try:
        return await asyncio.shield(forking)
    except asyncio.CancelledError:
        # The kernel has to be gone before its connection file is removed or used again.
        forking.add_done_callback(_end_unwanted)
        await asyncio.wait([forking])
        raise


def _fork(request: KernelRequest, file: Path) -> _Kernel:
    return _Kernel(*_warm_source().launch(request, file))


def _end_unwanted(forking: asyncio.Future[_Kernel]) -> None:
    if not forking.cancelled() and forking.exception() is None:
        forking.result().end()


def close_warm_kernels() -> None:
    """End this process's warm kernels and templates; the next launch makes new ones."""
    global _source
    with _source_lock:
        source = _source[1] if _source is not None and _source[0] == os.getpid() else None
        _source = None
    if source is not None:
        source.close()


# Registered after the private folder's own handler, so it runs before that.
atexit.register(close_warm_kernels)
