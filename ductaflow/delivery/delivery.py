"""Deliver runs: copy what they left into folders made of their rows, only what has changed.

A target is a folder, or a URL that fsspec understands. In each lies a manifest with the hash of
every file delivered; by it the next delivery knows what has changed, and what to take away.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, final

import attrs

from ductaflow._version import __version__
from ductaflow.delivery.stores import MANIFEST, Store, decoded, is_url, opened, store_at
from ductaflow.documents.html import whole
from ductaflow.errors import ArtifactError, DuctaflowError, ExportError, TableError
from ductaflow.files import jsonio
from ductaflow.files.compression import compressed
from ductaflow.history.lineage import root_of
from ductaflow.history.run import Run
from ductaflow.history.runs import Runs
from ductaflow.project.root import project_root, target_folder
from ductaflow.tables.table import Row
from ductaflow.tables.template import Piece, pieces


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
            with one. In a URL, `%2e%2e` is `..`. A relative folder starts at the caller's current
            one (in a flow, the instance's); one outside the project is given by its whole path.
        files: Globs of the files to deliver, relative to the instance's folder; `*` is everything,
            in folders too. Hidden files and links are left out.

    Returns:
        What was done, one item for each run that succeeded.

    Raises:
        TableError: The template has a field that the rows have not, or two runs have one target.
        ExportError: No file matches, one could not be copied, or a target lies outside its root, or
            is relative and outside the project. If it is a copy, earlier runs are delivered.
    """
    if isinstance(runs, Run):
        runs = [runs]
    root = runs.root if isinstance(runs, Runs) else _root(runs)
    place = placed(root)
    rows: Iterable[Row] = runs.rows() if isinstance(runs, Runs) else map(_config, runs)
    targets: list[str | None] = []
    taken: dict[str, str] = {}
    for run, row in zip(runs, rows, strict=True):
        if not run.ok:
            targets.append(None)
            continue
        flow = run.paths.notebook.stem
        target = place(target_of(template, row, step=run.step, instance=run.instance, flow=flow))
        if target in taken:
            raise TableError(
                f"{taken[target]} and {run.label} would both be delivered to {target}; "
                "give each a folder of its own, with {instance} in the template"
            )
        taken[target] = run.label
        targets.append(target)
    return [
        export_run(run, target, files, root)
        for run, target in zip(runs, targets, strict=True)
        if target is not None
    ]


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
    store = store_at(target, root)
    with tempfile.TemporaryDirectory(prefix="ductaflow-") as made:
        return _export(run, target, store, files, root, Path(made))


def _export(
    run: Run, target: str, store: Store, files: str | Sequence[str], root: Path, made: Path
) -> Delivery:
    """Deliver one run; `made` is a folder for what is not delivered as it lies there."""
    try:
        old = _delivered(store)
        names = _chosen(run.dir, files)
        shared_at = root_of(run) if run.step else root
        sources = {
            name: _to_deliver(run.dir / name, shared_at, made / str(number))
            for number, name in enumerate(names)
        }
        here = {name: _hash(source) for name, source in sources.items()}
        thinned = [name for name in _thinned(run) if name in old and name not in here]
        packed = {compressed(Path(name)).name for name in thinned}
        here = {name: told for name, told in here.items() if name not in packed}
        here.update((name, old[name]) for name in thinned)  # thinning is no business of a client's
        present = {n for n, known in old.items() if here.get(n) == known and store.has(n, known)}
        copied = [name for name in here if name not in present and name not in thinned]
        removed = [name for name in old if name not in here]
        if copied or removed or not old:
            manifest = _manifest(run, here)
            store.deliver({name: sources[name] for name in copied}, removed, manifest)
    except ExportError:
        raise
    except ArtifactError as e:
        raise ExportError(f"{run.label} could not be delivered to {target}: {e}") from e
    except store.errors as e:
        raise ExportError(
            f"{run.label} could not be delivered to {target}: {e}. Its manifest there is as "
            "before; deliver again once that is repaired."
        ) from e
    return Delivery(target, tuple(copied), tuple(sorted(present)), tuple(removed))


# --- where to -----------------------------------------------------------------------------------


def placed(root: Path) -> Callable[[str], str]:
    """A function that gives targets as seen from the root, from the folder that is current now.

    Args:
        root: The project root, out of which no relative target may lead.

    Raises:
        ExportError: The function does, for one that does.
    """
    here = Path.cwd()

    def place(target: str) -> str:
        if is_url(target):
            return target
        try:
            folder = target_folder(target, root, "the target", here)
        except DuctaflowError as e:
            raise ExportError(str(e)) from None
        return target if here == root else str(folder)

    return place


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
    target = "".join(piece.text for piece in found)
    as_opened = decoded if is_url(target) else str
    first = 1 if found and found[0].field else 0
    for piece in found[first:]:
        if piece.field and _is_no_folder(as_opened(piece.text)):
            raise ExportError(
                f"export_to {template!r}: {{{piece.field}}} is {piece.text!r} for {instance!r}, "
                f"{_LEADS_OUT}"
            )
    # Pieces that are harmless one by one may not be so together.
    start = found[0].text if first else "".join(p.text for p in takewhile(_is_own, found))
    base = start if target[len(start) :][:1] in ("", "/", "\\") else start[: _folder_end(start)]
    above, there = _parts(opened(base)), _parts(opened(target))
    if there[: len(above)] != above or ".." in there[len(above) :]:
        raise ExportError(f"export_to {template!r} is {target!r} for {instance!r}, {_LEADS_OUT}")
    return target


_LEADS_OUT = (
    "which leads out of its root: only what stands before the first field, or the first field "
    "itself, may name a folder further up"
)


def _folder_end(path: str) -> int:
    return max(path.rfind("/"), path.rfind("\\")) + 1


def _is_own(piece: Piece) -> bool:
    return piece.field is None


def _is_no_folder(text: str) -> bool:
    """Whether a field's text has a part that names no folder below."""
    return ":" in text or not all(part.strip(". ") for part in re.split(r"[/\\]", text))


def _parts(path: str) -> tuple[str, ...]:
    """A path's parts, without those that lead back."""
    plain = posixpath.normpath(path.replace("\\", "/"))
    return tuple(part for part in plain.split("/") if part not in ("", "."))


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


def _to_deliver(file: Path, root: Path, made: Path) -> Path:
    """The file, or what is made of one that shares with others what it is to have itself.

    Raises:
        ArtifactError: That is not there.
    """
    content = whole(file, root) if file.suffix == ".html" else None
    if content is None:
        return file
    made.write_bytes(content)
    shutil.copystat(file, made)
    return made


def _thinned(run: Run) -> list[str]:
    """Names of the files that were deleted or compressed to take less room."""
    gone, files = run.record.thinned, run.paths.readable.items()
    return [file.name for name, file in files if name in gone or compressed(file).exists()]


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
            "started": run.known.started,
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


def _root(runs: Sequence[Run]) -> Path:
    """The project root of instances; of runs elsewhere the caller's."""
    return next((root_of(run) for run in runs if run.step), None) or project_root(None)
