"""Files that are made from a flow: they say so, and are not made anew over somebody's edits."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ductaflow._version import __version__
from ductaflow.errors import ArtifactError, ConversionError
from ductaflow.files import jsonio
from ductaflow.model.flows import Flow
from ductaflow.text.quoting import visible

_SEAL = re.compile(rb"^(?P<comment>#|rem) text sha256: (?P<hash>[0-9a-f]{64})\r?\n", re.MULTILINE)
_PLACE = "0" * 64


def header(flow: Flow, shown: str, comment: str = "#") -> str:
    """The lines that say what a file was made from.

    Args:
        flow: The flow.
        shown: Its path as the reader knows it.
        comment: What begins a comment in the file, `#` or `rem`.
    """
    lines = [
        f"made by ductaflow {__version__} from {visible(shown)}",
        f"source sha256: {flow.sha256}",
        f"text sha256: {_PLACE}",
        "This file can be edited: it is then made anew only if that is asked for (force=True).",
    ]
    return "".join(f"{comment} {line}\n" for line in lines)


def is_generated(path: Path) -> bool:
    """Whether a file says of itself that it was made here."""
    try:
        with path.open("rb") as file:
            return _SEAL.search(file.read(2000)) is not None
    except OSError:
        return False


def write_generated(path: Path, text: str, *, force: bool, executable: bool = False) -> None:
    """Write a file that has a `header`.

    Args:
        path: Where.
        text: Its text, with its own line ends.
        force: Whether to overwrite what was edited, or was not made here.
        executable: Whether it can be run.

    Raises:
        ConversionError: There is such a file that somebody has edited or written.
        ArtifactError: It cannot be written.
    """
    if not force:
        refuse_edited(path)
    data = _sealed(text.encode("utf-8"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ArtifactError(f"cannot make {path.parent}: {e.strerror or e}") from e
    jsonio.write_atomic(path, data)
    if executable:
        path.chmod(path.stat().st_mode | 0o755)


def refuse_edited(path: Path) -> None:
    """Do not go on over what is not as it was made here.

    Raises:
        ConversionError: It is not.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as e:
        raise ConversionError(f"{path} is there and cannot be read: {e.strerror or e}") from e
    found = _SEAL.search(data)
    if found is None:
        raise ConversionError(
            f"{path} is there and was not made by ductaflow; it stays. Move it away, or ask for it "
            "to be overwritten (force=True, --force)."
        )
    if _digest(data, found).encode() != found["hash"]:
        raise ConversionError(
            f"{path} was edited since it was made; it stays. Move your edits to the flow, or ask "
            "for it to be overwritten (force=True, --force)."
        )


def _sealed(data: bytes) -> bytes:
    found = _SEAL.search(data)
    assert found is not None, "a generated file has a header"
    return data[: found.start("hash")] + _digest(data, found).encode() + data[found.end("hash") :]


def _digest(data: bytes, seal: re.Match[bytes]) -> str:
    """The hash of all but the seal; line ends do not count, which tools like to change."""
    rest = data[: seal.start()] + data[seal.end() :]
    return hashlib.sha256(rest.replace(b"\r\n", b"\n")).hexdigest()
