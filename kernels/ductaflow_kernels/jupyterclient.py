"""jupyter_client, imported by one thread at a time.

Its modules import each other. Of two threads that import different ones of them at once, one would
find some half made: Python lets imports of a circle pass each other rather than wait for ever.
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def import_jupyter_client() -> None:
    """Have it imported whole; then any thread can import what it likes of it."""
    with _lock:
        import jupyter_client.session  # noqa: F401
