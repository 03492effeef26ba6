"""The IPKernelApp of ipykernel, initialised in two steps: the first before the fork."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Callable
from typing import Any

import zmq
from ipykernel import kernelapp
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.application import BaseIPythonApplication
from IPython.core.profiledir import ProfileDir

from ductaflow_inside.kernel.naming import named_as
from ductaflow_inside.kernel.session import FlowSession
from ductaflow_inside.names import one_thread


class _BareProfileDir(ProfileDir):  # type: ignore[misc]
    """A profile folder whose own folders nobody will look into."""

    def check_dirs(self, *_: Any) -> None:
        """Make none of them."""

    check_log_dir = check_startup_dir = check_security_dir = check_dirs
    check_pid_dir = check_static_dir = check_dirs


class _Base(BaseIPythonApplication):  # type: ignore[misc]
    """Stands between IPKernelApp and its base, whose part `prepare` has done already."""

    def initialize(self, argv: Any = None) -> None:
        """Nothing is left to do."""


@named_as(IPKernelApp)
class FlowKernelApp(IPKernelApp, _Base):  # type: ignore[misc]
    """An IPKernelApp that is initialised in two steps."""

    def initialize_base(self, argv: list[str]) -> None:
        """The first step, without a profile folder."""
        BaseIPythonApplication.initialize(self, argv)

    def init_profile_dir(self) -> None:
        """A profile that is nowhere yet; nothing is read from the user's own."""
        self.profile_dir = _BareProfileDir()

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

    control_port: Any
    front_end = False  # whether a front end uses it, who expects ipykernel's own habits

    def load_extensions(self) -> None:
        """What `init_extensions` does, before the fork."""
        super().init_extensions()

    def init_extensions(self) -> None:
        """They are loaded."""

    def init_surroundings(self) -> None:
        """What an import finds that `initialize` would make later, before the fork."""
        super().init_path()
        super().configure_tornado_logger()
        super().patch_io()

    def configure_tornado_logger(self) -> None:
        """It is done."""

    def patch_io(self) -> None:
        """It is done."""

    def load_code(self) -> None:
        """What `init_code` does where nothing is to be run, before the fork."""
        super().init_code()

    def init_code(self) -> None:
        """It is done; a front end's user may have files that are run at the start."""
        if self.front_end:
            super().init_code()

    def init_connection_file(self) -> None:
        """Read it; for a flow it need not be looked for."""
        if self.front_end:
            super().init_connection_file()
            return
        with open(self.connection_file, encoding="utf-8") as file:
            self.load_connection_info(json.load(file))

    def init_control(self, context: Any) -> None:
        """For a flow the IOPub thread serves this channel."""
        if self.front_end or not one_thread():
            super().init_control(context)
            return
        self.control_socket = context.socket(zmq.ROUTER)
        self.control_socket.linger = 1000
        self.control_port = self._bind_socket(self.control_socket, self.control_port)
        self.control_thread = types.SimpleNamespace(
            io_loop=None, start=lambda: None, is_alive=lambda: False
        )
        kernelapp.IOPubThread.control = self.control_socket

    def make_kernel(self) -> None:
        """Make a flow's kernel, before the fork: it has no sockets yet."""
        self.kernel = self.kernel_class.instance(
            parent=self,
            session=self.session,
            log=self.log,
            profile_dir=self.profile_dir,
            user_ns=self.user_ns,
        )

    def init_kernel(self) -> None:
        """Give a flow's kernel its sockets, or make a front end's."""
        if self.front_end or not one_thread():
            self.kernel_class.clear_instance()
            super().init_kernel()
            return
        self.kernel.connect(self)
        ports = {f"{channel}_port": port for channel, port in self._ports.items()}
        self.kernel.record_ports(ports)
        self.displayhook.get_execution_count = lambda: self.kernel.execution_count

    def _session_default(self) -> Any:
        return FlowSession(parent=self)

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

    def start(self) -> None:
        """Serve, also after an exit in a task of asyncio, which ends the loop that runs it."""
        serve = super().start
        try:
            while not self._served(serve):
                serve = self.io_loop.start
        finally:
            if self.front_end:
                self._end_control()

    def _end_control(self) -> None:
        """Let the thread that was told to shut down finish what it says of it.

        It flushes the streams, through a thread that `close` ends first: either would wait for
        the other, or use its socket at the same time, which takes the process with it.
        """
        if self.control_thread.is_alive():
            self.control_thread.stop()
            self.control_thread.join()

    def _served(self, serve: Callable[[], None]) -> bool:
        try:
            serve()
        except SystemExit as e:
            if self.front_end:
                raise
            self.kernel.task_left(e)
            return False
        return True

    def init_heartbeat(self) -> None:
        """None for a flow: a conductor learns of a kernel's death from its process."""
        if self.front_end:
            super().init_heartbeat()
