"""Interpreters whose kernels cannot be ours: too old, or with an ipykernel that is not known yet.

Theirs are plain ones: `python -m ipykernel_launcher`, started when asked for. What they use is
known as far as files go, so that their runs are not reused.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any, final

import attrs

from ductaflow_kernels.errors import UnmanagedKernel
from ductaflow_kernels.sources.surroundings import stamps
from ductaflow_kernels.spec import KernelRequest, KernelSpec

LOG = logging.getLogger("ductaflow_kernels")
CONSEQUENCE = "Its kernels are plain ones: they are not started ahead, and no run is reused"


def unmanaged(word: dict[str, Any]) -> UnmanagedKernel:
    """The error that `ductaflow_inside.requirements.unfit` tells of."""
    versions = f"Python {word['python']}"
    if word["ipykernel"]:
        versions += f", ipykernel {word['ipykernel']}"
    message = f"{word['interpreter']} ({versions}) {word['unfit']}"
    folders = tuple(word["folders"])
    if not word["ipykernel"]:
        install = f"`{word['interpreter']} -m pip install ipykernel`"
        message += f"; install it with {install} (warm kernels need {word['needs']})"
        return UnmanagedKernel(message, folders, plain=False)
    return UnmanagedKernel(f"{message}; warm kernels need {word['needs']}", folders)


def unmanaged_line(line: bytes) -> UnmanagedKernel | None:
    """The same, where it may be another line."""
    return unmanaged(json.loads(line)) if line.startswith(b"{") else None


@final
@attrs.define(eq=False)
class PlainKernels:
    """Which interpreters are known to have plain kernels only, and why."""

    _known: dict[tuple[KernelSpec, Any], tuple[str, dict[str, int]]] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def why(self, request: KernelRequest) -> str:
        """Why a request's interpreter has plain kernels; empty if that is not known (any more)."""
        with self._lock:
            known = self._known.get(_key(request))
            if known is None or stamps(known[1]) != known[1]:
                return ""
            return known[0]

    def learn(self, request: KernelRequest, error: UnmanagedKernel) -> str:
        """Take in that an interpreter has plain kernels, and tell it once; why."""
        why = f"{error}. {CONSEQUENCE}"
        with self._lock:
            known = self._known.get(_key(request))
            self._known[_key(request)] = why, stamps(error.folders)
        if known is None or known[0] != why:
            LOG.warning("%s.", why)  # in a terminal, where nobody has set up logging
        return why


def _key(request: KernelRequest) -> tuple[KernelSpec, Any]:
    return request.spec, request.warm_key.startup_env
