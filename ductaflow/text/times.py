"""Times as people read them: records hold UTC, people live in a zone."""

from __future__ import annotations

from datetime import datetime


def local_time(iso: str, *, zone: bool = False, seconds: bool = True) -> str:
    """A record's time, here: `2026-11-27 06:35:32`.

    Args:
        iso: The time, with its offset; what is no time stays as it is.
        zone: Add the offset, where others may read it: `2026-11-27 06:35:32 +09:00`.
        seconds: Whether they count.
    """
    try:
        then = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return iso
    text = f"{then:%Y-%m-%d %H:%M:%S}"[: None if seconds else 16]
    return f"{text} {then.isoformat(timespec='minutes')[-6:]}" if zone else text
