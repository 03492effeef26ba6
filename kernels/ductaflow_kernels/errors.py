"""What can go wrong with a kernel, apart from the code it runs."""

from __future__ import annotations


class KernelError(Exception):
    """Base of every error of this package."""


class UnknownKernelspec(KernelError):
    """No kernelspec of that name; the message lists those there are."""


class KernelStartError(KernelError):
    """A kernel did not come up; the message carries the tail of what it printed."""


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
