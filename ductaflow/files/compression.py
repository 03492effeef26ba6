"""Files that are kept compressed: `name.gz` in the place of `name`."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Final

from ductaflow.files import jsonio

SUFFIX: Final = ".gz"


def compressed(path: Path) -> Path:
    """Where a file lies once it is compressed."""
    return path.with_name(path.name + SUFFIX)


def kept(path: Path) -> Path:
    """The file as it is there: itself, or compressed; itself if it is not there at all."""
    packed = compressed(path)
    return packed if not path.exists() and packed.exists() else path


def read(path: Path) -> bytes:
    """The bytes of a file, which may be kept compressed.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    there = kept(path)
    data = there.read_bytes()
    try:
        return data if there == path else gzip.decompress(data)
    except (EOFError, zlib.error) as e:
        raise OSError(f"{there} is damaged: {e}") from e


def compress(path: Path) -> None:
    """Keep a file compressed: the compressed one is whole before the file itself goes.

    Raises:
        OSError, ArtifactError: It cannot be read, written or removed.
    """
    packed = gzip.compress(path.read_bytes(), mtime=0)
    jsonio.write_atomic(compressed(path), packed, durable=True)
    path.unlink()
