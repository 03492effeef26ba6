"""Whether two runs came to the same: their cells' outputs, and the files that they wrote.

Cells are compared without what is of one run only (`volatile`), files byte for byte; where a file's
format keeps what is no content, as the time at which it was written, by content.
"""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json
import re
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from ductaflow.model.records import SCRAP_MIME
from ductaflow.model.verification import Difference
from ductaflow.text.volatile import Circumstances, renamed_ids, same_text

_EXCERPT = 160  # characters
_PIECE = 1 << 20


@attrs.frozen
class Pair:
    """The circumstances of both runs.

    Attributes:
        old: Of the run that would be reused.
        new: Of the one that was made to compare.
    """

    old: Circumstances
    new: Circumstances

    def same_text(self, before: str, after: str) -> bool:
        """Whether two texts say the same."""
        return same_text(before, after, self.old, self.new)

    def excerpts(self, before: str, after: str) -> tuple[str, str]:
        """The first lines in which two texts differ."""
        lines = itertools.zip_longest(before.splitlines(), after.splitlines())
        for was, now in lines:
            if was is None or now is None or not self.same_text(was, now):
                return _short(was), _short(now)
        return _short(before), _short(after)


def _short(line: str | None) -> str:
    if line is None:
        return "(nothing)"
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"


# --- cells -----------------------------------------------------------------------------------


def compare_notebooks(
    before: Mapping[str, Any], after: Mapping[str, Any], numbers: Sequence[int], pair: Pair
) -> Iterator[Difference]:
    """What differs in the outputs of two executed notebooks' code cells.

    Args:
        before: The one, as nbformat has it.
        after: The other.
        numbers: The numbers of the code cells in the flow file, 0 for those inserted; none if they
            are to be counted.
        pair: The circumstances of both.
    """
    old, new = ([c for c in nb["cells"] if c["cell_type"] == "code"] for nb in (before, after))
    if len(old) != len(new):
        old, new = ([{"outputs": _all_outputs(cells)}] for cells in (old, new))
        names = ["the notebook"]
    else:
        known = numbers if len(numbers) == len(old) else range(1, len(old) + 1)
        names = [f"cell {number}" for number in known]
    for name, was, now in zip(names, old, new, strict=True):
        found = compare_outputs(was.get("outputs", ()), now.get("outputs", ()), pair)
        if found is not None:
            yield attrs.evolve(found, where=name)


def _all_outputs(cells: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [output for cell in cells for output in cell.get("outputs", ())]


def compare_outputs(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], pair: Pair
) -> Difference | None:
    """The first difference between the outputs of a cell, or None; what `record` left apart.

    How a stream was cut into pieces, and how two streams came in between each other, is chance.
    """
    for stream in ("stdout", "stderr"):
        was, now = _stream(before, stream), _stream(after, stream)
        if not pair.same_text(was, now):
            return Difference("cell", "", f"{stream} differs", *pair.excerpts(was, now))
    old, new = (
        [o for o in out if o["output_type"] != "stream" and SCRAP_MIME not in o.get("data", ())]
        for out in (before, after)
    )
    for was_shown, now_shown in itertools.zip_longest(old, new):
        found = _compare_shown(was_shown, now_shown, pair)
        if found is not None:
            return found
    return None


def _stream(outputs: Sequence[Mapping[str, Any]], name: str) -> str:
    return "".join(_text(o["text"]) for o in outputs if o.get("name") == name and "text" in o)


def _text(value: object) -> str:
    if isinstance(value, list):
        return "".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _compare_shown(
    was: Mapping[str, Any] | None, now: Mapping[str, Any] | None, pair: Pair
) -> Difference | None:
    if was is None or now is None:
        what = "an output more than before" if was is None else "an output is missing"
        return Difference("cell", "", what, _told(was), _told(now))
    if was["output_type"] != now["output_type"]:
        return Difference("cell", "", "another kind of output", _told(was), _told(now))
    if was["output_type"] == "error":
        old, new = (f"{error['ename']}: {error['evalue']}" for error in (was, now))
        if pair.same_text(old, new):
            return None
        return Difference("cell", "", "another error", *pair.excerpts(old, new))
    if set(was["data"]) != set(now["data"]):
        kinds = (", ".join(sorted(out["data"])) for out in (was, now))
        return Difference("cell", "", "an output of other types", *kinds)
    for mime, value in was["data"].items():
        if not _same_data(mime, _text(value), _text(now["data"][mime]), pair):
            excerpts = ("", "")
            if not mime.startswith("image/"):
                excerpts = pair.excerpts(_text(value), _text(now["data"][mime]))
            return Difference("cell", "", f"its {mime} differs", *excerpts)
    return None


def _told(output: Mapping[str, Any] | None) -> str:
    if output is None:
        return "(nothing)"
    data = output.get("data", {})
    return _short(_text(data.get("text/plain", output.get("ename", ", ".join(data)))))


def _same_data(mime: str, before: str, after: str, pair: Pair) -> bool:
    if mime == "application/vnd.jupyter.widget-view+json":
        return True  # the number of a widget, which is drawn at random
    if before == after:
        return True
    if mime in ("image/png", "image/jpeg"):
        return _same_image(base64.b64decode(before), base64.b64decode(after), pair)
    if mime in ("text/html", "image/svg+xml"):
        before, after = renamed_ids(before), renamed_ids(after)
    return pair.same_text(before, after)


# --- files -----------------------------------------------------------------------------------


def compare_files(before: Path, after: Path, pair: Pair) -> Difference | None:
    """How two files differ, or None; `where` is left to the caller.

    Raises:
        OSError: One cannot be read.
    """
    if _same_bytes(before, after):
        return None
    was, now = before.read_bytes(), after.read_bytes()
    if same_content(before.name, was, now, pair):
        return None
    try:
        excerpts = pair.excerpts(was.decode(), now.decode())
    except UnicodeDecodeError:
        excerpts = (f"{len(was):,} bytes", f"{len(now):,} bytes")
    return Difference("file", "", "differs", *excerpts)


def _same_bytes(before: Path, after: Path) -> bool:
    if before.stat().st_size != after.stat().st_size:
        return False
    with before.open("rb") as old, after.open("rb") as new:
        while piece := old.read(_PIECE):
            if piece != new.read(_PIECE):
                return False
    return True


def same_content(name: str, before: bytes, after: bytes, pair: Pair) -> bool:
    """Whether two files that are not the same bytes have the same content.

    Args:
        name: Their name, whose end says of what format they are.
        before: The one's bytes.
        after: The other's.
        pair: The circumstances of both runs.
    """
    if before == after:
        return True
    rule = next((rule for ends, rule in _RULES if name.lower().endswith(ends)), None)
    if rule is not None:
        try:
            return rule(before, after, pair)
        except _UNREADABLE:
            return False  # it is not of the format that its name says, so its bytes count
    return pair.new.placed(_latin(after)) == pair.old.placed(_latin(before))


_UNREADABLE = (
    ValueError, KeyError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile,
    tarfile.TarError, sqlite3.Error, NotImplementedError, ImportError,
)  # fmt: skip


def _latin(data: bytes) -> str:
    return data.decode("latin-1")


def _same_notebook(before: bytes, after: bytes, pair: Pair) -> bool:
    old, new = json.loads(before), json.loads(after)
    sources = [[_text(cell["source"]) for cell in nb["cells"]] for nb in (old, new)]
    return sources[0] == sources[1] and not list(compare_notebooks(old, new, (), pair))


def _same_page(before: bytes, after: bytes, pair: Pair) -> bool:
    return pair.same_text(renamed_ids(before.decode()), renamed_ids(after.decode()))


def _same_image(before: bytes, after: bytes, _: Pair) -> bool:
    """Whether two images have the same pixels, whatever else they say."""
    if _parts_of_image(before) == _parts_of_image(after):
        return True
    try:
        from PIL import Image
    except ImportError:
        return False
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
        if old.size != new.size:
            return False
        pixels = old.convert("RGBA"), new.convert("RGBA")
        return bool(pixels[0].tobytes() == pixels[1].tobytes())


_PNG = b"\x89PNG\r\n\x1a\n"


def _parts_of_image(data: bytes) -> list[bytes]:
    """The parts of a PNG or JPEG file that make its pixels."""
    found = []
    if data.startswith(_PNG):
        at = len(_PNG)
        while at < len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            if data[at + 4 : at + 8] not in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf"):
                found.append(data[at:end])
            at = end
        return found
    at = 2
    while data.startswith(b"\xff\xd8") and data[at : at + 1] == b"\xff":
        kind = data[at + 1]
        if kind == 0xDA:  # the pixels begin
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if not (0xE1 <= kind <= 0xEF or kind == 0xFE):  # metadata, comments
            found.append(data[at:end])
        at = end
    return [*found, data[at:]]


def _same_table(feather: bool) -> Callable[[bytes, bytes, Pair], bool]:
    def same(before: bytes, after: bytes, _: Pair) -> bool:
        if feather:
            read_table = import_module("pyarrow.feather").read_table
        else:
            read_table = import_module("pyarrow.parquet").read_table
        old, new = (read_table(io.BytesIO(data)) for data in (before, after))
        if not old.schema.equals(new.schema) or old.num_rows != new.num_rows:
            return False
        columns = zip(old.columns, new.columns, strict=True)
        # Arrow holds NaN to differ from itself.
        return all(a.equals(b) or repr(a.to_pylist()) == repr(b.to_pylist()) for a, b in columns)

    return same


def _same_zip(before: bytes, after: bytes, pair: Pair) -> bool:
    with zipfile.ZipFile(io.BytesIO(before)) as old, zipfile.ZipFile(io.BytesIO(after)) as new:
        if old.namelist() != new.namelist():
            return False
        return all(
            same_content(name, old.read(name), new.read(name), pair) for name in old.namelist()
        )


def _same_tar(before: bytes, after: bytes, pair: Pair) -> bool:
    members = []
    for data in (before, after):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {m.name: tar.extractfile(m) if m.isfile() else None for m in tar}
            members.append({n: f.read() if f is not None else b"" for n, f in files.items()})
    old, new = members
    return list(old) == list(new) and all(same_content(n, old[n], new[n], pair) for n in old)


def _same_gzip(before: bytes, after: bytes, _: Pair) -> bool:
    return gzip.decompress(before) == gzip.decompress(after)


_PDF_OWN = re.compile(rb"/(?:CreationDate|ModDate) ?\([^)]*\)|/ID ?\[[^\]]*\]")


def _same_pdf(before: bytes, after: bytes, _: Pair) -> bool:
    return _PDF_OWN.sub(b"", before) == _PDF_OWN.sub(b"", after)


def _same_xml(before: bytes, after: bytes, pair: Pair) -> bool:
    return pair.same_text(before.decode(), after.decode())


_RULES: tuple[tuple[tuple[str, ...], Callable[[bytes, bytes, Pair], bool]], ...] = (
    ((".ipynb",), _same_notebook),
    ((".html", ".htm", ".svg"), _same_page),
    ((".png", ".jpg", ".jpeg"), _same_image),
    ((".parquet", ".pq"), _same_table(feather=False)),
    ((".feather",), _same_table(feather=True)),
    ((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), _same_tar),
    ((".gz",), _same_gzip),
    ((".zip", ".xlsx", ".docx", ".pptx", ".npz", ".kmz"), _same_zip),
    (("docprops/core.xml",), _same_xml),  # when a spreadsheet was written
    ((".pdf",), _same_pdf),
)
"""How files are compared that may differ in bytes alone, by the ends of their names."""
