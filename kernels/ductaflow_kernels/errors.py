"""What can go wrong with a kernel, apart from the code it runs."""

from __future__ import annotations


class KernelError(Exception):
    """Base of every error of this package."""


class UnknownKernelspec(KernelError):
    """No kernelspec of that name; the message lists those there are."""


class KernelStartError(KernelError):
    """A kernel did not come up; the message carries the tail of what it printed."""


class UnmanagedKernel(KernelStartError):
    """An interpreter's kernels cannot be ours: it is too old, or has too old or new an ipykernel.

    Attributes:
        folders: Where its packages lie: once one of these changes it may be otherwise.
        plain: Whether it may have plain ones, started by its own command.
    """

    def __init__(self, message: str, folders: tuple[str, ...] = (), plain: bool = True) -> None:
        super().__init__(message, folders, plain)
        self.folders = folders
        self.plain = plain

    def __str__(self) -> str:
        return str(self.args[0])


class KernelDied(KernelError):
    """The kernel's process ended while it was in use.

    Attributes:
        exit_code: The process's exit code; negative for a signal's number; None if unknown.
        peak_memory: Its peak resident memory in bytes, or None if unknown.
    """

    def __init__(
        self, message: str, exit_code: int | None = None, peak_memory: int | None = None
    ) -> None:
        super().__init__(message, exit_code, peak_memory)
        self.exit_code = exit_code
        self.peak_memory = peak_memory

    def __str__(self) -> str:
        return str(self.args[0])


class LeaseCancelled(KernelError):
    """Whoever waited for a kernel no longer wants it."""


class PoolClosed(KernelError):
    """A kernel was asked of a pool that is closed."""
