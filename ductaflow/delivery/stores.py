"""Places that files are delivered to: folders, and what fsspec understands.

In each lies a manifest with the hash of every file delivered, which appears last.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, final
from urllib.parse import unquote
from urllib.request import url2pathname

import attrs

from ductaflow.errors import ExportError

MANIFEST = "ductaflow-manifest.json"
_BESIDE = ".ductaflow-"
_STALE = 24 * 3600.0  # seconds
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Store(Protocol):
    """A place that files are delivered to.

    Attributes:
        errors: What it raises if it fails.
    """

    errors: ClassVar[tuple[type[Exception], ...]]

    def read(self, name: str) -> bytes | None:
        """A file there, or None."""

    def has(self, name: str, known: Mapping[str, Any]) -> bool:
        """Whether a file that was delivered is still there."""

    def deliver(self, files: Mapping[str, Path], removed: Sequence[str], manifest: str) -> None:
        """Copy files there, take others away, and write the manifest."""


@final
@attrs.frozen
class FolderStore:
    """A local folder, made if need be."""

    errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    folder: Path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def has(self, name: str, known: Mapping[str, Any]) -> bool:
        try:
            return (self.folder / name).stat().st_size == int(known["size"])
        except OSError:
            return False

    def deliver(self, files: Mapping[str, Path], removed: Sequence[str], manifest: str) -> None:
        is_new = not self.folder.is_dir()
        place = self.folder.parent if is_new else self.folder
        place.mkdir(parents=True, exist_ok=True)
        _sweep_up(place)
        beside = place / f"{_BESIDE}{secrets.token_hex(6)}"
        try:
            beside.mkdir()
            for name, source in files.items():
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, beside / name)
            (beside / MANIFEST).write_text(manifest, "utf-8", "surrogatepass")
            if is_new and self._appears(beside):
                return
            for name in files:  # all are there: from here on only renames
                self._within(name).parent.mkdir(parents=True, exist_ok=True)
                (beside / name).replace(self.folder / name)
            for name in removed:
                self._within(name).unlink(missing_ok=True)
            (beside / MANIFEST).replace(self.folder / MANIFEST)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _appears(self, beside: Path) -> bool:
        """Give it its name, if nobody has it."""
        try:
            beside.rename(self.folder)
        except OSError:
            if self.folder.is_dir():
                return False
            raise
        return True

    def _within(self, name: str) -> Path:
        path = self.folder / name
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise ExportError(f"{path} leads through a link out of {self.folder}")
        return path


@lru_cache(maxsize=1024)
def _sweep_up(place: Path) -> None:
    """Take away what a killed conductor has left; a live one may be at work."""
    for left in place.glob(f"{_BESIDE}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left)


@final
@attrs.frozen
class UrlStore:
    """A folder or bucket of a file system that fsspec knows."""

    errors: ClassVar[tuple[type[Exception], ...]] = (Exception,)  # each has its own
    fs: Any
    path: str

    @classmethod
    def open(cls, url: str) -> UrlStore:
        try:
            import fsspec
        except ImportError as e:
            raise ExportError(
                f"delivering to {url} needs fsspec: pip install 'ductaflow[remote]'"
            ) from e
        try:
            fs, path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as e:
            raise ExportError(f"cannot deliver to {url}: {e}") from e
        return cls(fs, path.rstrip("/"))

    def read(self, name: str) -> bytes | None:
        try:
            content: bytes = self.fs.cat_file(f"{self.path}/{name}")
        except FileNotFoundError:
            return None
        return content

    def has(self, name: str, known: Mapping[str, Any]) -> bool:
        try:
            size: object = self.fs.info(f"{self.path}/{name}")["size"]
        except FileNotFoundError:
            return False
        return bool(size == known["size"])

    def deliver(self, files: Mapping[str, Path], removed: Sequence[str], manifest: str) -> None:
        # An object appears whole or not at all; the manifest comes last.
        for name, source in files.items():
            self._make_room(name)
            self.fs.put_file(str(source), f"{self.path}/{name}")
        for name in removed:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(f"{self.path}/{name}")
        self._make_room(MANIFEST)
        self.fs.pipe_file(f"{self.path}/{MANIFEST}", manifest.encode("utf-8", "surrogatepass"))

    def _make_room(self, name: str) -> None:
        """Make a file's folder. Object stores have none, and would make a misspelt bucket."""
        if self.path.startswith("/"):
            self.fs.makedirs(f"{self.path}/{name}".rpartition("/")[0], exist_ok=True)


def is_url(target: str) -> bool:
    """Whether a target is a URL."""
    return _URL.match(target) is not None


def opened(target: str) -> str:
    """The path that a target leads to, as its store opens it.

    A `file://` URL is decoded. How often other URLs are depends on their file system and on the
    server behind it; all that can be decoded is, for this judges where they may lead.

    Raises:
        ExportError: It holds a character that no path can.
    """
    path, url = target, _URL.match(target)
    if target.startswith("file://"):
        path = url2pathname(target.removeprefix("file://"))
    elif url is not None:
        path = decoded(target[url.end() :])
    if "\0" in path:
        raise ExportError(f"cannot deliver to {target!r}: no path can hold a NUL character")
    return path


def decoded(text: str) -> str:
    """A part of a URL with all its `%2e` and the like decoded, also those that hide others."""
    while (plain := unquote(text)) != text:
        text = plain
    return text


def store_at(target: str, root: Path) -> Store:
    """The store that a target names: a folder, from `root` if it is relative, or a URL.

    Raises:
        ExportError: There is nothing that understands the URL, or no path can be so.
    """
    path = opened(target)
    if is_url(target) and not target.startswith("file://"):
        return UrlStore.open(target)
    return FolderStore(root / Path(path).expanduser())
