"""Deliver runs: copy what they left into folders made of their rows, only what has changed.

A target is a folder, or a URL that fsspec understands. In each lies a manifest with the hash of
every file delivered; by it the next delivery knows what has changed, and what to take away.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, final
from urllib.request import url2pathname

import attrs

from ductaflow import jsonio
from ductaflow._version import __version__
from ductaflow.errors import ExportError, TableError
from ductaflow.run import Run
from ductaflow.runs import Runs
from ductaflow.table import Row
from ductaflow.template import pieces

MANIFEST = "ductaflow-manifest.json"
_BESIDE = ".ductaflow-"
_STALE = 24 * 3600.0  # seconds
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@final
@attrs.frozen
class Delivery:
    """What a delivery of one run has done.

    Attributes:
        target: The folder or URL.
        copied: Files that were new or had changed.
        unchanged: Files that were there already.
        removed: Files of an earlier delivery that the run no longer has.
    """

    target: str
    copied: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def export(
    runs: Runs | Sequence[Run] | Run, template: str, *, files: str | Sequence[str] = "*"
) -> list[Delivery]:
    """Copy what runs left to where their rows say.

    Each run's files appear together, after all of them have been copied beside: a new folder as a
    whole, in one that is there by renames alone. On a URL each appears as it is written, the
    manifest last. Files that somebody else has put there stay. Runs that failed are left out.

    Args:
        runs: What to deliver.
        template: A folder, or a URL for fsspec (which has settings of its own for keys and hosts),
            with fields for the row's columns (or the config's keys) and `step`, `instance`,
            `instance_name`, `flow`; as `{target_dir}/{client}/{instance}`. No field can lead out of
            its root: what stands before the first field, or the first field itself if it begins
            with one. A relative one starts at the project's root.
        files: Globs of the files to deliver, relative to the instance's folder; `*` is everything,
            in folders too. Hidden files and links are left out.

    Returns:
        What was done, one item for each run that succeeded.

    Raises:
        TableError: The template has a field that the rows have not, or two runs have one target.
        ExportError: No file matches, one could not be copied, or a target lies outside its root. If
            it is a copy, earlier runs are delivered.
    """
    if isinstance(runs, Run):
        runs = [runs]
    rows: Iterable[Row] = runs.rows() if isinstance(runs, Runs) else map(_config, runs)
    targets: dict[str, Run] = {}
    for run, row in zip(runs, rows, strict=True):
        if not run.ok:
            continue
        flow = run.notebook.stem
        target = target_of(template, row, step=run.step, instance=run.instance, flow=flow)
        if target in targets:
            raise TableError(
                f"{targets[target].label} and {run.label} would both be delivered to {target}; "
                "give each a folder of its own, with {instance} in the template"
            )
        targets[target] = run
    root = runs.root if isinstance(runs, Runs) else None
    return [export_run(run, target, files, root or _root(run)) for target, run in targets.items()]


def export_run(run: Run, target: str, files: str | Sequence[str], root: Path) -> Delivery:
    """Deliver one run to a folder or URL; see `export`.

    Args:
        run: The run.
        target: Where to.
        files: Globs.
        root: What a relative folder starts from.

    Raises:
        ExportError: It could not be delivered.
    """
    store = _store(target, root)
    try:
        old = _delivered(store)
        here = {name: _hash(run.dir / name) for name in _chosen(run.dir, files)}
        present = {n for n, known in old.items() if here.get(n) == known and store.has(n, known)}
        copied = [name for name in here if name not in present]
        removed = [name for name in old if name not in here]
        if copied or removed or not old:
            manifest = _manifest(run, here)
            store.deliver({name: run.dir / name for name in copied}, removed, manifest)
    except ExportError:
        raise
    except store.errors as e:
        raise ExportError(
            f"{run.label} could not be delivered to {target}: {e}. Its manifest there is as "
            "before; deliver again once that is repaired."
        ) from e
    return Delivery(target, tuple(copied), tuple(sorted(present)), tuple(removed))


# --- where to -----------------------------------------------------------------------------------


def target_of(template: str, row: Row, *, step: str, instance: str, flow: str) -> str:
    """The target of a row.

    Args:
        template: See `export`.
        row: The row.
        step: The step's name.
        instance: The instance's.
        flow: The flow's.

    Raises:
        TableError: The template has a field that the row has not.
        ExportError: A field would lead out of the template's root.
    """
    own = {
        "step": step,
        "instance": instance,
        "instance_name": instance,
        "flow": flow,
    }
    found = pieces(template, {**own, **row}, "export_to")
    for piece in found[1:] if found and found[0].field else found:
        parts = re.split(r"[/\\]", piece.text)
        if piece.field and (not all(part.strip(". ") for part in parts) or ":" in piece.text):
            raise ExportError(
                f"export_to {template!r}: {{{piece.field}}} is {piece.text!r} for {instance!r}, "
                "which leads out of its root: only what stands before the first field, or the "
                "first field itself, may name a folder further up"
            )
    return "".join(piece.text for piece in found)


def _store(target: str, root: Path) -> Store:
    if target.startswith("file://"):
        return _FolderStore(Path(url2pathname(target.removeprefix("file://"))))
    if _URL.match(target):
        return _UrlStore.open(target)
    return _FolderStore(root / Path(target).expanduser())


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
class _FolderStore:
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
class _UrlStore:
    errors: ClassVar[tuple[type[Exception], ...]] = (Exception,)  # each has its own
    fs: Any
    path: str

    @classmethod
    def open(cls, url: str) -> _UrlStore:
        try:
            import fsspec
        except ImportError as e:
            raise ExportError(
                f"delivering to {url} takes fsspec: pip install 'ductaflow[remote]'"
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


# --- what ---------------------------------------------------------------------------------------


def _chosen(folder: Path, globs: str | Sequence[str]) -> list[str]:
    """Names of the files to deliver, relative, with `/`, sorted; hidden ones are not among them.

    Raises:
        ExportError: There is none.
    """
    wanted = [globs] if isinstance(globs, str) else list(globs)
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part[0] == "." for part in PurePosixPath(name).parts)
        if hidden or name == MANIFEST or path.is_symlink() or not path.is_file():
            continue
        if any(fnmatch.fnmatchcase(name, glob) for glob in wanted):
            names.append(name)
    if not names:
        raise ExportError(f"no file in {folder} matches {globs!r}, so there is nothing to deliver")
    return names


def _hash(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
        if digest is None:  # Python 3.10
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _manifest(run: Run, files: Mapping[str, Any]) -> str:
    return jsonio.dumps(
        {
            "schema": 1,
            "ductaflow": __version__,
            "step": run.step,
            "instance": run.instance,
            "started": run.record.started,
            "delivered": datetime.now(timezone.utc).isoformat(),
            "files": dict(files),
        }
    )


def _delivered(store: Store) -> dict[str, Any]:
    """The files that the manifest there speaks of, and that may be ours to remove."""
    try:
        data = json.loads(store.read(MANIFEST) or b"{}")
        files = data.get("files", {})
        return {
            name: known
            for name, known in files.items()
            if isinstance(known, dict) and ".." not in PurePosixPath(name).parts and name[0] != "/"
        }
    except (ValueError, AttributeError, IndexError):
        return {}


def _config(run: Run) -> Row:
    return run.config or {}


def _root(run: Run) -> Path:
    """The project root of an instance; of a run elsewhere the current folder."""
    return run.dir.parents[2] if run.step else Path.cwd()
