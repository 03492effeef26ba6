"""Flow files: text notebook to `Flow`, the line of every cell, the check before a run.

Jupytext does the reading. What it does not tell, the line at which each cell begins, is found
by laying the cells' sources along the file's lines (`_align`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ductaflow.errors import FlowError, FlowNotFound, ParametersCellError
from ductaflow.flows.commands import uncommented
from ductaflow.model.records import INSERTED_TAGS, Cell, Flow, Tag
from ductaflow.project.settings import load_settings

FLOW_FOLDERS = ("flow", "flows")
FLOW_SUFFIXES = (".py", ".md", ".ipynb", ".Rmd", ".qmd", ".R", ".jl")

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
    path = _absolute(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as e:
        folders = [path.parent, *(up / f for up in path.parents[:2] for f in FLOW_FOLDERS)]
        raise _not_found(str(path), path.name, folders) from e
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
    lines = [None] * len(sources) if is_json else _align(sources, text)
    found = list(zip(raw_cells, lines, strict=True))
    cells = _cells(found, INSERTED_TAGS, keep_ids=is_json)
    return Flow(
        path=path,
        name=path.stem,
        cells=cells,
        parameters=next(iter(_parameters_cells(cells)), None),
        metadata=notebook["metadata"],
        sha256=sha256,
        written=_cells(found, frozenset({Tag.BANNER}), keep_ids=is_json),
        uncommented=() if is_json else tuple(uncommented(cells, _LINE_END.split(text))),
    )


def as_written(flow: Flow) -> Flow:
    """The flow with the cells that an earlier execution has inserted, where nothing replaces them.

    Only the banner of a failure is left out: it tells of that execution.
    """
    if len(flow.written) == len(flow.cells):
        return flow
    parameters = next(iter(_parameters_cells(flow.written)), None)
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
    guarded, restore = _guard_line_ends(text)
    notebook: dict[str, Any]
    notebook = _plain(jupytext.reads(guarded, fmt={"extension": path.suffix}, config=config))
    if restore:
        for cell in notebook["cells"]:
            cell["source"] = cell["source"].translate(restore)
    return notebook


_NO_LINE_END = re.compile("(?<![\n\r])[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Characters at which `str.splitlines`, which jupytext uses, ends a line, and Python does not. At
the beginning of a line they are left alone: there they stand between parts of a file."""


def _guard_line_ends(text: str) -> tuple[str, dict[int, str]]:
    """A text in which other characters stand for these, and a table that brings them back."""
    found = sorted({*_NO_LINE_END.findall(text)})
    free = (chr(c) for c in range(0xE000, 0xF8FF) if chr(c) not in text)
    stand_in = dict(zip(found, free, strict=False))
    guarded = _NO_LINE_END.sub(lambda match: stand_in[match[0]], text)
    return guarded, {ord(other): own for own, other in stand_in.items()}


def _read_ipynb(text: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(text)
    if not isinstance(notebook, dict) or "nbformat" not in notebook:
        raise ValueError("it is no Jupyter notebook")
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


# --- lines -----------------------------------------------------------------------------------

_COMMENT = re.compile(r"^(\s*)(?:#'|//|--|;;|[#%;']) ?")
_TRIPLE_QUOTE = re.compile(r"^\s*[rR]?(?:\"\"\"|''')|(?:\"\"\"|''')\s*$")


def _align(cells: Sequence[tuple[str, str]], text: str) -> list[int | None]:
    """The line of `text` where each (kind, source) begins; None for a cell without text.

    Cells lie in the file in their order, and between two of them there are only markers and
    blank lines; so the first place after the last cell that reads like the next one is it.
    """
    lines = _numbered_lines(text)
    forms = [_forms(line) for _, line in lines]
    position = _after_header(lines)

    def find(wanted: list[str], code: bool) -> int | None:
        def reads_like(at: int) -> bool:
            return all(
                want.strip() in (form[:2] if code else form)
                for want, form in zip(wanted, forms[at : at + len(wanted)], strict=True)
            )

        last = len(lines) - len(wanted)
        return next((at for at in range(position, last + 1) if reads_like(at)), None)

    found: list[int | None] = []
    for kind, source in cells:
        wanted = source.split("\n")
        if not source.strip():
            found.append(None)
            continue
        at = find(wanted, kind == "code")
        if at is None and wanted[0].startswith("%%") and len(wanted) > 1:
            # jupytext makes this line from the marker's `language=`; it stands on the marker
            at = find(wanted[1:], code=True)
            at = None if at is None else at - 1
        if at is None:  # a reading of jupytext's own: it stands where the next text does
            at = next((i for i in range(position, len(lines)) if _is_text(lines[i][1])), None)
            position = position if at is None else at + 1
        else:
            position = at + len(wanted)
        found.append(None if at is None else lines[at][0])
    return found


def _is_text(line: str) -> bool:
    """Whether a line is neither blank nor a cell's marker."""
    return bool(line.strip()) and re.match(r"\s*(?:#|//|--) ?(?:%%|\+|-)", line) is None


def _forms(line: str) -> tuple[str, ...]:
    """What a line of the file may be in a cell; in a code cell only the first two."""
    uncommented = _COMMENT.sub(r"\1", line, count=1)
    twice = _COMMENT.sub(r"\1", uncommented, count=1)  # a magic in light markdown
    unquoted = _TRIPLE_QUOTE.sub("", line)
    return line.strip(), uncommented.strip(), twice.strip(), unquoted.strip()


_LINE_END = re.compile(r"\r\n|\r|\n")


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    """Lines as jupytext cuts them, each with its number in an editor.

    It also cuts at form feeds and the like at the beginning of a line.
    """
    guarded, restore = _guard_line_ends(text)
    lines = enumerate(_LINE_END.split(guarded), 1)
    return [
        (number, part.translate(restore))
        for number, line in lines
        for part in line.splitlines() or [""]
    ]


def _after_header(lines: Sequence[tuple[int, str]]) -> int:
    """Index of the first line after the YAML header; 0 if there is none."""
    fences = [i for i, (_, line) in enumerate(lines) if _COMMENT.sub(r"\1", line).rstrip() == "---"]
    if len(fences) < 2:
        return 0
    before = (line for _, line in lines[: fences[0]])
    is_header = all(
        not line.strip() or line.startswith(("#!", "<!--")) or "coding" in line for line in before
    )
    return fences[1] + 1 if is_header else 0


# --- the parameters cell ---------------------------------------------------------------------

_PARAMETERS_LINES = {
    "percent": '# %% tags=["parameters"]\nconfig = {}\n# %%',
    "hydrogen": '# %% tags=["parameters"]\nconfig = {}\n# %%',
    "light": '# + tags=["parameters"]\nconfig = {}\n# -',
    "markdown": '```python tags=["parameters"]\nconfig = {}\n```',
    "rmarkdown": '```{python tags=c("parameters")}\nconfig = {}\n```',
    "myst": "```{code-cell}\n:tags: [parameters]\n\nconfig = {}\n```",
}


def require_parameters(flow: Flow) -> int:
    """Index into `flow.cells` of the one parameters cell.

    Raises:
        ParametersCellError: There is none, or more than one.
    """
    found = _parameters_cells(flow.cells)
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(_place(flow.cells[i]) for i in found)
        raise ParametersCellError(
            f"{flow.path}: {len(found)} cells are tagged `{Tag.PARAMETERS}` ({places}), where one "
            "gives `config` its default; keep the tag on one of them"
        )
    text_format = flow.metadata.get("jupytext", {}).get("text_representation", {})
    lines = _PARAMETERS_LINES.get(text_format.get("format_name", ""))
    other = next((c for c in flow.cells if Tag.PARAMETERS in c.tags), None)
    wrong_kind = f" (the tagged one at {_place(other)} is {other.kind})" if other else ""
    how = (
        f"Add these lines near its top:\n\n{lines}\n"
        if lines
        else f"Add a code cell with `config = {{}}` near its top and give it the cell tag "
        f"`{Tag.PARAMETERS}` (JupyterLab: Property Inspector, Cell Tags)."
    )
    raise ParametersCellError(
        f"{flow.path}:1: no code cell is tagged `{Tag.PARAMETERS}`{wrong_kind}, "
        f"so there is no place for the config. {how}"
    )


def _parameters_cells(cells: Sequence[Cell]) -> list[int]:
    return [i for i, c in enumerate(cells) if c.kind == "code" and Tag.PARAMETERS in c.tags]


def _place(cell: Cell) -> str:
    return f"cell {cell.number}" if cell.line is None else f"line {cell.line}"


# --- finding ---------------------------------------------------------------------------------


def resolve_flow(name: str | os.PathLike[str], root: Path, cwd: Path) -> Path:
    """The flow file that a name or path means.

    Args:
        name: A path relative to `cwd` or else `root`, or to `flow/` or `flows/` of the root, or a
            bare name of a file there or in one of their subfolders; with or without its suffix.
        root: The project root.
        cwd: The caller's working directory.

    Returns:
        Its absolute path. Of several suffixes, the first in `FLOW_SUFFIXES` wins.

    Raises:
        FlowNotFound: No such file, or several in subfolders; the message names the nearest.
    """
    given = Path(name).expanduser()
    folders = [root / folder for folder in load_settings(root).flows]
    if given.name:
        for candidate in _candidates(given, root, cwd):
            if candidate.suffix and candidate.is_file():
                return _absolute(candidate)
        if given.parent == Path():
            below = _in_subfolders(given.name, folders)
            if len(below) > 1:
                told = ", ".join(_relative(file, root) for file in below)
                raise FlowNotFound(f"{given}: there are several such flow files; name one: {told}")
            if below:
                return below[0]
    files = [below for folder in folders for below in _subfolders(folder)]
    folders = [cwd / given.parent, root / given.parent, *files]
    raise _not_found(os.fspath(name), given.name, folders, shown_from=root)


def _candidates(given: Path, root: Path, cwd: Path) -> Iterator[Path]:
    bases = [cwd / given, root / given]
    if not given.is_absolute():
        bases += [root / folder / given for folder in load_settings(root).flows]
    for base in bases:
        yield base
        for suffix in FLOW_SUFFIXES:
            yield base.with_name(base.name + suffix)


def _in_subfolders(name: str, folders: Sequence[Path]) -> list[Path]:
    """The flow files of a bare name, one a folder: the first in the order of their suffixes."""
    suffixes = ("", *FLOW_SUFFIXES)
    found = []
    for folder in dict.fromkeys(below for each in folders for below in _subfolders(each)):
        files = (folder / f"{name}{suffix}" for suffix in suffixes)
        found += [f for f in files if f.suffix in FLOW_SUFFIXES and f.is_file()][:1]
    return [_absolute(file) for file in found]


def _subfolders(folder: Path) -> Iterator[Path]:
    """A folder and those below it, but for hidden ones and what Python keeps."""
    for here, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if name[0] != "." and name != "__pycache__")
        yield Path(here)


def flow_files(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders that may be flows, by their suffix."""
    return [file for below in _subfolders(folder) for file in _flow_files(below)]


def _not_found(
    named: str, wanted: str, folders: Sequence[Path], shown_from: Path | None = None
) -> FlowNotFound:
    """The error for a missing flow, with the nearest names there are."""
    searched = list(dict.fromkeys(_absolute(f) for f in folders))
    files = {f: None for folder in searched for f in _flow_files(folder)}
    stem = Path(wanted).stem if Path(wanted).suffix in FLOW_SUFFIXES else wanted
    by_stem: dict[str, list[Path]] = {}
    for file in files:
        by_stem.setdefault(file.stem.lower(), []).append(file)
    close = difflib.get_close_matches(stem.lower(), by_stem, n=3, cutoff=0.5)
    nearest = [_relative(file, shown_from) for near in close for file in by_stem[near]]
    hint = (
        f"did you mean {' or '.join(nearest[:3])}?"
        if nearest
        else f"searched {', '.join(str(f) for f in searched if f.is_dir()) or 'no folder there is'}"
    )
    is_folder = wanted and any((folder / wanted).is_dir() for folder in searched)
    what = "is a folder, not a flow file" if is_folder else "there is no such flow file"
    return FlowNotFound(f"{named or 'an empty name'}: {what}; {hint}")


def _flow_files(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.suffix in FLOW_SUFFIXES)
    except OSError:
        return []


def _relative(path: Path, base: Path | None) -> str:
    if base is not None and path.is_relative_to(_absolute(base)):
        return path.relative_to(_absolute(base)).as_posix()
    return str(path)


def _absolute(path: Path) -> Path:
    """`path` made absolute and tidy, its symlinks kept: a flow's name is the one it was given."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
