"""Which other hosts a run connects to: their addresses, and the names that they were asked for by.

Used on both sides: a kernel notes what Python resolves and connects to (`install`), the observer
what native code and child processes connect to (`remote`, of a call's socket address).
"""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Callable
from typing import Any

MARK = "connect:"
"""Before an address among the paths that an observer notes; a path there begins with `/`."""

_DNS = 53  # a resolver is asked for addresses, not for data


def remote(address: bytes) -> str:
    """The other host's address, of a `struct sockaddr`; empty for this machine and for no host."""
    family = int.from_bytes(address[:2], sys.byteorder)
    port = int.from_bytes(address[2:4], "big")
    if port == _DNS:
        return ""
    if family == socket.AF_INET and len(address) >= 8:
        return _far(socket.inet_ntop(socket.AF_INET, address[4:8]))
    if family == socket.AF_INET6 and len(address) >= 24:
        return _far(socket.inet_ntop(socket.AF_INET6, address[8:24]))
    return ""


def _far(host: str) -> str:
    """A host as it is noted; empty if it is this machine by any of its usual names."""
    host = host.partition("%")[0].removeprefix("::ffff:").rstrip(".").lower()
    return "" if host in _HERE or host.startswith("127.") else host


_HERE = ("", "localhost", "::", "::1", "0.0.0.0")  # noqa: S104  (connected to, not bound)


_names: dict[str, dict[str, None]] = {}  # address → the names that were resolved to it
_asked: dict[str, None] = {}  # hosts that were connected to, or that nobody knows


def install() -> None:
    """Have noted from now on what Python connects to, once in a process."""
    socket.getaddrinfo = _resolving(socket.getaddrinfo)
    for name in ("gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _resolving(getattr(socket, name)))
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _connecting(getattr(socket.socket, name)))


def _resolving(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that finds a host's addresses, and notes which are whose."""

    @functools.wraps(original)
    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = _far(_text(host))
        try:
            found = original(host, *args, **kwargs)
        except OSError:
            if name:
                _asked[name] = None  # that nobody knows it was an answer, too
            raise
        if name:
            for address in _addresses(found):
                _names.setdefault(address, {})[name] = None
        return found

    return resolve


def _addresses(found: Any) -> list[str]:
    """The addresses in what one of the functions has given."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, tuple):  # name, aliases, addresses
        return list(found[2])
    return [_far(entry[4][0]) for entry in found if isinstance(entry[4][0], str)]


def _connecting(original: Callable[..., Any]) -> Callable[..., Any]:
    """A method of sockets that connects to a host, and notes which."""

    @functools.wraps(original)
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            note(_text(address[0]) if address and address[1:2] != (_DNS,) else "")
        return original(self, address)

    return connect


def _text(host: Any) -> str:
    if isinstance(host, (bytes, bytearray)):
        return bytes(host).decode("ascii", "replace")
    return host if isinstance(host, str) else ""


def note(host: str) -> None:
    """Note that the run depends on what a host has answered.

    Args:
        host: Its name or address.
    """
    name = _far(host)
    if name:
        _asked[name] = None


def report() -> dict[str, Any]:
    """What was noted: hosts that were `asked`, and the `names` of addresses."""
    return {"asked": list(_asked), "names": {ip: list(names) for ip, names in _names.items()}}
