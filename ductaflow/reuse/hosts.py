"""Which other hosts a run has connected to, by the names that its kernel knows them by."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

_SHOWN = 3


def hosts_of(noted: Mapping[str, Any], addresses: Iterable[str]) -> tuple[str, ...]:
    """The other hosts that a run has connected to.

    Args:
        noted: What its kernel has noted of the network.
        addresses: Those that an observer has seen.
    """
    names = noted.get("names", {})
    found = {host for host in (*noted.get("asked", ()), *addresses) if not _is_here(host)}
    return tuple(sorted({name for host in found for name in names.get(host, [host])}))


@lru_cache(maxsize=256)
def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == socket.gethostname().lower()
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # nothing is sent
        # To itself, a machine speaks from that same address.
        return bool(ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address)
    return False


def listed(hosts: Sequence[str]) -> str:
    """Hosts in a sentence."""
    shown, more = list(hosts[:_SHOWN]), len(hosts) - _SHOWN
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
