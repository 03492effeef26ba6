"""Where kernels come from, behind one Protocol."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, final

import attrs
import zmq

from ductaflow_kernels.errors import KernelStartError, UnmanagedKernel
from ductaflow_kernels.interpreters import START
from ductaflow_kernels.processes.connection import Connection, new_connection
from ductaflow_kernels.processes.process import (
    KILL,
    KernelProcess,
    Patience,
    SpawnedProcess,
    describe_exit,
)
from ductaflow_kernels.session.observer import observer_address
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.plain import unmanaged_line
from ductaflow_kernels.sources.surroundings import as_before
from ductaflow_kernels.spec import KernelRequest, KernelSpec

STARTED = "started.json"  # as `ductaflow_inside.boot` names it
START_TIMEOUT = 60.0  # seconds for which a kernel that is coming up may do nothing


class KernelSource(Protocol):
    """Makes kernels, one at a time, each fresh.

    Attributes:
        name: A word for records and messages.
        ahead: Whether a kernel may be started before it is known for which instance; it is then
            given its folder and environment by `KernelSession.adopt`.
    """

    name: str
    ahead: bool

    def start(self, request: KernelRequest) -> KernelSession:
        """A kernel that is up; blocks until it is.

        Raises:
            UnmanagedKernel: The interpreter's kernels cannot be managed.
            KernelStartError: It did not come up; the message says what it printed.
        """

    def expect(self, request: KernelRequest) -> None:
        """Get ready for a request like this one, as far as that is quick and sure to be of use."""

    def learn(self, session: KernelSession, imported: Sequence[str]) -> None:
        """Take notice of what a kernel had to import, for others of its warm key."""

    def fitted(self, request: KernelRequest) -> KernelRequest:
        """The request without imports ahead that would not be the same in its folder."""

    def fresh(self, session: KernelSession, request: KernelRequest) -> bool:
        """Whether a kernel that has waited is still what a new one for the request would be."""

    def close(self) -> None:
        """Release what the source itself holds; its kernels are not its own."""


@final
@attrs.define(eq=False)
class ColdSource:
    """Starts a kernel when it is asked for, in its folder and environment: works for any kernel."""

    name: str = "cold"
    ahead: bool = False
    timeout: float = START_TIMEOUT

    def start(self, request: KernelRequest) -> KernelSession:
        return spawn(request, request.cwd, self.name, self.timeout)

    def expect(self, request: KernelRequest) -> None:  # noqa: ARG002
        return None

    def learn(self, session: KernelSession, imported: Sequence[str]) -> None:  # noqa: ARG002
        return None

    def fitted(self, request: KernelRequest) -> KernelRequest:
        return request

    def fresh(self, session: KernelSession, request: KernelRequest) -> bool:  # noqa: ARG002
        return True

    def close(self) -> None:
        return None


@final
@attrs.define(eq=False)
class PrespawnedSource:
    """Starts managed kernels before it is known what for, to be adopted later."""

    name: str = "prespawned"
    ahead: bool = True
    timeout: float = START_TIMEOUT

    def start(self, request: KernelRequest) -> KernelSession:
        return spawn(request, None, self.name, self.timeout)

    def expect(self, request: KernelRequest) -> None:  # noqa: ARG002
        return None

    def learn(self, session: KernelSession, imported: Sequence[str]) -> None:  # noqa: ARG002
        return None

    def fitted(self, request: KernelRequest) -> KernelRequest:
        return request

    def fresh(self, session: KernelSession, request: KernelRequest) -> bool:
        # It has imported nothing but ipykernel; but somebody must answer it.
        answered = request.observe is None or session.observer == observer_address()
        return answered and as_at_start(session)

    def close(self) -> None:
        return None


def spawn(request: KernelRequest, cwd: Path | None, source: str, timeout: float) -> KernelSession:
    """Start a kernel as a new process.

    Args:
        request: Which kernel, with what environment.
        cwd: Its folder; None for a private one, until it is adopted.
        source: Name of the source, for records.
        timeout: Seconds for which it may do nothing before it is up.

    Raises:
        KernelStartError: It did not come up; the message says what it printed.
    """
    observer = observer_address() if request.observe else ""
    connection = new_connection()
    connection.write()
    log = connection.folder / "start.log"
    process: KernelProcess | None = None
    session: KernelSession | None = None
    try:
        with log.open("wb") as errors:
            popen = subprocess.Popen(
                _command(request.spec, connection, observer),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                cwd=cwd or connection.folder,
                env=request.environment,
                start_new_session=True,
            )
        process = SpawnedProcess(popen)
        if request.spec.managed:
            assert popen.stdout is not None
            wait_for_ready(popen.stdout.fileno(), popen.pid, timeout)
        session = KernelSession(request.spec, process, connection, source, observer=observer)
        session.open(timeout)
    except BaseException as e:
        said = give_up(connection, process, session)
        if isinstance(e, UnmanagedKernel):
            raise
        if isinstance(e, OSError | KernelStartError | zmq.ZMQError | RuntimeError):
            code = process.poll() if process is not None else None
            ended = f"; {describe_exit(code)}" if code is not None and code != -KILL else ""
            raise KernelStartError(
                f"kernel {request.spec.name or request.spec.argv[0]!r} did not start: {e}{ended}"
                f"{said}"
            ) from e
        raise
    return session


def as_at_start(session: KernelSession) -> bool:
    """Whether an interpreter that starts now would read what that of a waiting kernel has read.

    That is `sitecustomize`, `.pth` files and `pyvenv.cfg`, and which packages there are.
    """
    try:
        reads = json.loads((session.connection.folder / STARTED).read_bytes())
    except FileNotFoundError:  # a kernel of another kind
        return True
    return as_before(reads)


def give_up(
    connection: Connection, process: KernelProcess | None, session: KernelSession | None
) -> str:
    """End what there is of a kernel that did not come up; what it had printed, for the error."""
    said = tail(connection.folder / "start.log")
    if session is not None:
        session.close()
    else:
        if process is not None:
            process.kill()
            process.close()
        connection.remove()
    return said


def _command(spec: KernelSpec, connection: Connection, observer: str) -> list[str]:
    given = [str(connection.folder), observer]
    if spec.managed:
        return [*spec.argv, str(START), "kernel", *given, str(connection.file)]
    argv = [
        part.replace("{connection_file}", str(connection.file)).replace(
            "{private_folder}", str(connection.folder)
        )
        for part in spec.argv
    ]
    if sys.platform.startswith("linux"):  # elsewhere a foreign kernel minds its own parent
        return [sys.executable, str(START), "exec", *given, *argv]
    return argv


def wait_for_ready(pipe: int, pid: int, timeout: float) -> None:
    """Read the one line that the boot file writes when its kernel serves.

    Args:
        pipe: The file descriptor to read it from.
        pid: The kernel's process.
        timeout: Seconds for which it may do nothing.

    Raises:
        UnmanagedKernel: It says that it cannot be.
        KernelStartError: It did not come.
    """
    said = b""
    patience = Patience(pid, timeout)
    while not said.endswith(b"\n"):
        seconds = patience.left()
        if not _readable(pipe, seconds):
            if seconds:
                continue
            raise KernelStartError(f"it hung: it was not ready and did nothing for {timeout:g} s")
        piece = os.read(pipe, 64)
        if not piece:
            raise KernelStartError("its process ended")
        said += piece
    unmanaged = unmanaged_line(said)
    if unmanaged is not None:
        raise unmanaged


def _readable(pipe: int, seconds: float) -> bool:
    if not hasattr(select, "poll"):  # Windows: the read itself waits
        return True
    waiting = select.poll()  # select() fails where a process has over 1024 files
    waiting.register(pipe, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def tail(log: Path) -> str:
    """The end of what a kernel printed before it was up, for an error message."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f"\nIt printed:\n{text[-2000:]}" if text else ""
