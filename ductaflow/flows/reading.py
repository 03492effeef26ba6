"""Flow files: text notebook to `Flow`, the line of every cell, the check before a run.

Jupytext does the reading. What it does not tell, the line at which each cell begins, is found
by laying the cells' sources along the file's lines (`align`).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ductaflow.errors import FlowError
from ductaflow.flows.commands import uncommented
from ductaflow.flows.finding import FLOW_FOLDERS, absolute, not_found
from ductaflow.flows.lines import LINE_END, align, guard_line_ends
from ductaflow.flows.parameterscell import parameters_cells
from ductaflow.model.flows import INSERTED_TAGS, Cell, Flow, Tag

_CACHED_VERSIONS = 64


# --- reading ---------------------------------------------------------------------------------


def read_flow(path: Path) -> Flow:
    """The flow in a file, parsed once per version of its content.

    Args:
        path: Any notebook that jupytext reads: `.py` (percent, light, hydrogen), `.md`,
            `.Rmd`, `.ipynb` and others.

    Returns:
        Its cells without outputs, and without those that an earlier execution had inserted.

    Raises:
        FlowNotFound: There is no such file; the message names the nearest.
        FlowError: It is not readable, not UTF-8, or not a notebook.
    """
    path = absolute(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as e:
        folders = [path.parent, *(up / f for up in path.parents[:2] for f in FLOW_FOLDERS)]
        raise not_found(str(path), path.name, folders) from e
    except OSError as e:
        raise FlowError(
            f"cannot read the flow {path}: {e.strerror or e}; check its permissions"
        ) from e
    key = path, hashlib.sha256(data).hexdigest()
    with _parsing:  # held while parsing: a version is parsed once however many threads ask
        flow = _parsed.get(key)
        if flow is None:
            flow = _parsed[key] = parse_flow(path, data, key[1])
        _parsed.move_to_end(key)
        while len(_parsed) > _CACHED_VERSIONS:
            _parsed.popitem(last=False)
    return flow


_parsed: OrderedDict[tuple[Path, str], Flow] = OrderedDict()
_parsing = threading.Lock()


def parse_flow(path: Path, data: bytes, sha256: str = "") -> Flow:
    """The flow that bytes are, as those of a file of that path.

    Raises:
        FlowError: They are not UTF-8, or not a notebook.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise FlowError(
            f"{path}:{line}: the flow is not UTF-8 text (byte {data[e.start]:#04x}); "
            "save it with the encoding UTF-8"
        ) from e
    is_json = path.suffix == ".ipynb"
    try:
        notebook = _read_ipynb(text) if is_json else _read_text(path, text)
    except Exception as e:  # whatever a parser meets, the flow is at fault
        raise FlowError(f"cannot read {path} as a notebook: {e}") from e
    raw_cells: list[dict[str, Any]] = notebook["cells"]
    sources = [(c["cell_type"], c["source"]) for c in raw_cells]
    lines = [None] * len(sources) if is_json else align(sources, text)
    found = list(zip(raw_cells, lines, strict=True))
    cells = _cells(found, INSERTED_TAGS, keep_ids=is_json)
    return Flow(
        path=path,
        name=path.stem,
        cells=cells,
        parameters=next(iter(parameters_cells(cells)), None),
        metadata=notebook["metadata"],
        sha256=sha256,
        written=_cells(found, frozenset({Tag.BANNER}), keep_ids=is_json),
        uncommented=() if is_json else tuple(uncommented(cells, LINE_END.split(text))),
    )


def as_written(flow: Flow) -> Flow:
    """The flow with the cells that an earlier execution has inserted, where nothing replaces them.

    Only the banner of a failure is left out: it tells of that execution.
    """
    if len(flow.written) == len(flow.cells):
        return flow
    parameters = next(iter(parameters_cells(flow.written)), None)
    return attrs.evolve(flow, cells=flow.written, parameters=parameters)


def _cells(
    found: Sequence[tuple[Mapping[str, Any], int | None]],
    without: frozenset[str],
    *,
    keep_ids: bool,
) -> tuple[Cell, ...]:
    """The cells of a notebook and their lines, but for those with one of the tags in `without`."""
    kept = [
        (raw, line) for raw, line in found if without.isdisjoint(raw["metadata"].get("tags", ()))
    ]
    ids = _cell_ids([raw for raw, _ in kept], keep=keep_ids)
    return tuple(
        Cell(
            kind=raw["cell_type"],
            source=raw["source"],
            number=number,
            line=line,
            id=cell_id,
            metadata=raw["metadata"],
            attachments=raw.get("attachments"),
        )
        for number, ((raw, line), cell_id) in enumerate(zip(kept, ids, strict=True), 1)
    )


def _read_text(path: Path, text: str) -> dict[str, Any]:
    import jupytext
    from jupytext.config import load_jupytext_config

    config = load_jupytext_config(str(path))
    guarded, restore = guard_line_ends(text)
    notebook: dict[str, Any]
    notebook = _plain(jupytext.reads(guarded, fmt={"extension": path.suffix}, config=config))
    if restore:
        for cell in notebook["cells"]:
            cell["source"] = cell["source"].translate(restore)
    return notebook


def _read_ipynb(text: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(text)
    if not isinstance(notebook, dict) or "nbformat" not in notebook:
        raise ValueError("it is not a Jupyter notebook")
    if notebook["nbformat"] != 4:
        import nbformat

        notebook = nbformat.convert(nbformat.reader.reads(text), 4)
    notebook = _plain(notebook)
    notebook.setdefault("metadata", {})
    for number, cell in enumerate(notebook["cells"], 1):
        if cell.get("cell_type") not in ("code", "markdown", "raw"):
            raise ValueError(f"cell {number} has the type {cell.get('cell_type')!r}")
        source = cell.get("source", "")
        cell["source"] = source if isinstance(source, str) else "".join(source)
        cell.setdefault("metadata", {})
    return notebook


def _plain(node: Any) -> Any:
    """`node` with plain dicts in place of nbformat's attribute dicts."""
    if isinstance(node, dict):
        return {k: _plain(v) for k, v in node.items()}
    return [_plain(v) for v in node] if isinstance(node, list) else node


def _cell_ids(cells: Sequence[Mapping[str, Any]], *, keep: bool) -> list[str]:
    """Unique ids, valid in nbformat 4.5; a cell's own if `keep`, else one of its text."""
    ids: list[str] = []
    own = [str(c.get("id", "")) if keep else "" for c in cells]
    taken = set(own)
    for cell, own_id in zip(cells, own, strict=True):
        if re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", own_id) and own_id not in ids:
            ids.append(own_id)
            continue
        text = f"{cell['cell_type']}\n{cell['source']}".encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(text).hexdigest()[:12]
        cell_id, count = digest, 1
        while cell_id in taken:
            count += 1
            cell_id = f"{digest}-{count}"
        taken.add(cell_id)
        ids.append(cell_id)
    return ids
