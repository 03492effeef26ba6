"""JSON text and atomic files: how everything ductaflow owns reaches the disk."""

from __future__ import annotations

import json
import os
import secrets
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ductaflow.errors import ArtifactError


def dumps(value: Any) -> str:
    """Readable JSON: two spaces, unicode as it is, keys in their own order, NaN allowed."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=True)


def canonical(value: Any) -> str:
    """JSON for comparing and hashing: no spaces, sorted keys, ASCII only."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=True)


def now() -> str:
    """The time as records hold it: ISO, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def create(path: Path) -> int:
    """Make an empty file if it is not there, open to whom the umask and its folder's rules say.

    For what others then open by themselves: SQLite and file locks give less than that.

    Returns:
        The file's permissions.

    Raises:
        OSError: It can be neither made nor opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        return stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes | str, *, durable: bool = False) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Args:
        path: The file; its folder must exist.
        data: Its new content; text is written as UTF-8 (lone surrogates survive).
        durable: Also ask the disk to keep it before returning.

    Raises:
        ArtifactError: It could not be written; the old file is untouched.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    beside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            with beside.open("xb") as file:
                file.write(raw)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise ArtifactError(
            f"cannot write {path}: {e.strerror or e}; the earlier file, if any, is untouched. "
            f"Free space or make {path.parent} writable, then run again."
        ) from e
