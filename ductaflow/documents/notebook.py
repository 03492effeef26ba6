"""The executed notebook: a document that grows as cells run, and its bytes.

The bytes are those of `nbformat.write` for nbformat 4.5. Each cell's JSON is kept until the cell
changes, so saving after every cell costs that cell's JSON and one join.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, Final, final

import attrs

from ductaflow.documents.outputs import Output
from ductaflow.documents.widgets import WIDGET_STATE_MIME
from ductaflow.model.flows import Cell, NbCell, Tag
from ductaflow.model.records import ErrorInfo, Status
from ductaflow.model.thisrun import THIS_RUN

FAILING_ANCHOR: Final = "ductaflow-failing-cell"
"""The id that the banner's link leads to; JupyterLab and HTML exports both follow it."""

_CELL_ID = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_TRANSIENT_NOTEBOOK = frozenset({"orig_nbformat", "orig_nbformat_minor", "signature"})
_TRANSIENT_CELL = frozenset({"trusted"})
_SPLIT_MIMES = frozenset({"application/javascript", "image/svg+xml"})
_MESSAGE_LIMIT = 2_000
_MARKDOWN = re.compile(r"[\\`$]")
_LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")
_ENCODER = json.JSONEncoder(
    indent=1, sort_keys=True, separators=(",", ": "), ensure_ascii=False, allow_nan=False
)


@final
@attrs.define(eq=False)
class _Slot:
    """A cell of the document, with outputs not asked for yet, and its JSON while that holds."""

    bare: NbCell
    outputs: Callable[[], Sequence[Output]] | None = None
    json: bytes | None = None

    @property
    def cell(self) -> NbCell:
        """The cell with the outputs that it has by now."""
        if self.outputs is not None:
            self.bare = {**self.bare, "outputs": list(self.outputs())}
            self.outputs = None
        return self.bare

    def change(self, **values: Any) -> None:
        """Set keys of the cell."""
        self.bare = {**self.bare, **values}
        self.json = None

    def text(self) -> bytes:
        """The cell as it stands in the file."""
        if self.json is None:
            self.json = _utf8(_cell_json(self.cell))
        return self.json


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that may change: all instances of a flow begin with the flow's metadata."""
    return copy.deepcopy(dict(metadata))


@final
@attrs.define(eq=False)
class Notebook:
    """The executed notebook of one instance.

    An index is a position in the document: an insertion moves the cells after it.

    Attributes:
        metadata: The notebook's metadata, to be changed in place.
    """

    _cells: Sequence[Cell]
    metadata: dict[str, Any] = attrs.field(factory=dict, converter=_own)
    _slots: list[_Slot] = attrs.field(factory=list, init=False)
    _ids: set[str] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._slots += map(self._slot, self._cells)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def widget_state(self) -> dict[str, Any] | None:
        """The state of the notebook's widgets, if it has any."""
        widgets = self.metadata.get("widgets") or {}
        state: dict[str, Any] | None = widgets.get(WIDGET_STATE_MIME)
        return state

    @widget_state.setter
    def widget_state(self, state: dict[str, Any] | None) -> None:
        if state is None:
            self.metadata.pop("widgets", None)
        else:
            self.metadata["widgets"] = {WIDGET_STATE_MIME: state}

    def cell(self, index: int) -> NbCell:
        """A cell as nbformat has it, with text as single strings; to be read only."""
        return self._slots[index].cell

    def prepare(self, index: int) -> None:
        """Make a cell's JSON now: it is not expected to change any more."""
        self._slots[index].text()

    def set_outputs(
        self, index: int, outputs: Sequence[Output] | Callable[[], Sequence[Output]]
    ) -> None:
        """Replace the outputs of a code cell.

        Args:
            index: The cell.
            outputs: The outputs, which must not change afterwards; or a function that gives
                them, asked once when they are next needed. With a function this costs nothing,
                so it may be called for every message.
        """
        slot = self._slots[index]
        slot.json = None
        slot.outputs = outputs if callable(outputs) else lambda: outputs

    def set_source(self, index: int, source: str) -> None:
        """Replace the text of a cell."""
        self._slots[index].change(source=source)

    def set_execution(
        self, index: int, count: int | None, timing: Mapping[str, str] | None = None
    ) -> None:
        """Set a code cell's prompt number and the times of its execution.

        Args:
            index: The cell.
            count: Its prompt number, or None.
            timing: ISO times under JupyterLab's keys, as `iopub.status.busy`; the notebook's
                metadata get them (`thisrun`).
        """
        slot = self._slots[index]
        slot.change(execution_count=count)
        own = self.metadata.setdefault("ductaflow", {}).setdefault(THIS_RUN, {})
        times = own.setdefault("cells", {})
        times.pop(slot.bare["id"], None)
        if timing:
            times[slot.bare["id"]] = dict(timing)

    def insert(self, index: int, cell: Cell) -> None:
        """Put `cell` before the one at that index, or at the end."""
        self._slots.insert(index, self._slot(cell))

    def as_dict(self) -> dict[str, Any]:
        """The whole notebook as nbformat has it, with text as single strings; to be read only."""
        return {
            "cells": [slot.cell for slot in self._slots],
            "metadata": {k: v for k, v in self.metadata.items() if k not in _TRANSIENT_NOTEBOOK},
            "nbformat": 4,
            "nbformat_minor": 5,
        }

    def dumps(self) -> bytes:
        """The notebook as a file: UTF-8, with a newline at the end.

        What JSON cannot say is put otherwise rather than lost with the rest: NaN and infinities
        become null, a lone surrogate becomes U+FFFD, an unknown object its `str`.
        """
        cells = [slot.text() for slot in self._slots]
        # All keys but the cells, without the opening brace: "cells" sorts first.
        rest = _json({**self.as_dict(), "cells": None}, 0).partition('"cells": null')[2]
        array = b"[\n" + b",\n".join(cells) + b"\n ]" if cells else b"[]"
        return b'{\n "cells": ' + array + _utf8(rest) + b"\n"

    def _slot(self, cell: Cell) -> _Slot:
        """`cell` as nbformat has it, with an id that is valid and no other cell's."""
        name = cell.id
        number = len(self._ids)
        while not _CELL_ID.fullmatch(name) or name in self._ids:
            name = f"ductaflow-{number}"
            number += 1
        self._ids.add(name)
        dropped = _TRANSIENT_CELL | ({"execution"} if cell.kind == "code" else frozenset())
        built: NbCell = {
            "cell_type": cell.kind,
            "id": name,
            "metadata": {k: v for k, v in cell.metadata.items() if k not in dropped},
            "source": cell.source,
        }
        if cell.kind == "code":
            built |= {"execution_count": None, "outputs": []}
        elif cell.attachments is not None:
            built["attachments"] = dict(cell.attachments)
        return _Slot(built)


def read_notebook(data: bytes) -> tuple[list[NbCell], dict[str, Any]]:
    """The cells and the metadata of a notebook file that `Notebook.dumps` has made.

    Returns:
        The cells with text as single strings, and the notebook's metadata.

    Raises:
        ValueError: It is no such file.
    """
    try:
        document = json.loads(data)
        return [_joined(cell) for cell in document["cells"]], document["metadata"]
    except (KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ValueError(f"it is not an executed notebook: {e!r}") from None


def _joined(cell: NbCell) -> NbCell:
    """The inverse of what `_cell_json` does to a cell's texts."""
    whole = {**cell, "source": _whole(cell["source"])}
    if "outputs" in cell:
        whole["outputs"] = [_joined_output(output) for output in cell["outputs"]]
    if "attachments" in cell:
        whole["attachments"] = {n: _joined_bundle(b) for n, b in cell["attachments"].items()}
    return whole


def _joined_output(output: Output) -> Output:
    if "text" in output:
        return {**output, "text": _whole(output["text"])}
    return {**output, "data": _joined_bundle(output["data"])} if "data" in output else output


def _joined_bundle(bundle: Mapping[str, Any]) -> dict[str, Any]:
    return {mime: _whole(value) if _is_split(mime) else value for mime, value in bundle.items()}


def _whole(text: Any) -> Any:
    return "".join(text) if isinstance(text, list) else text


def failure_cells(error: ErrorInfo, status: Status, flow_display: str) -> tuple[Cell, Cell | None]:
    """The markdown cells that tell a reader of a failed run what happened and where.

    Args:
        error: Why the run did not succeed.
        status: How it ended; gives the colour and the words.
        flow_display: The flow file as the reader knows it, as `flow/analysis.py`.

    Returns:
        A banner for the top, and an anchor for the place before the failing cell; no anchor if
        no cell failed.
    """
    metadata = {"tags": [Tag.BANNER]}
    told = error.message.strip()
    if not told.startswith(error.type):
        told = f"{error.type}: {told}" if told else error.type
    if len(told) > _MESSAGE_LIMIT:
        told = told[:_MESSAGE_LIMIT] + "…"
    title = f"{status.symbol} {_html(flow_display)}: {_html(status.label)}"
    lines = [
        f'<strong style="color: {status.colour};">{title}</strong>',
        f"<code>{_html(told)}</code>",
    ]
    where = _where(error, flow_display)
    if where:
        lines.append(f'In {_html(where)}: <a href="#{FAILING_ANCHOR}">go to the failing cell</a>')
    banner = Cell(
        "markdown",
        f'<div style="border: 1px solid {status.colour}; border-left-width: 8px; '
        f'border-radius: 4px; padding: 8px 12px;">\n' + "<br>\n".join(lines) + "\n</div>",
        id="ductaflow-banner",
        metadata=metadata,
    )
    if not where:
        return banner, None
    anchor = Cell(
        "markdown",
        f'<a id="{FAILING_ANCHOR}"></a><strong style="color: {status.colour};">'
        f"{status.symbol} {_html(status.label)} in this cell:</strong>",
        id=FAILING_ANCHOR,
        metadata=metadata,
    )
    return banner, anchor


def _where(error: ErrorInfo, flow_display: str) -> str:
    """The failing cell in words; empty if there is none."""
    if error.cell is None:
        return ""
    cell = f"cell {error.cell}" if error.cell else "a cell inserted by ductaflow"
    return cell if error.line is None else f"{cell}, line {error.line} of {flow_display}"


def _html(text: str) -> str:
    """`text` for an HTML block in markdown, with no blank line, math or code span in it."""
    escaped = _MARKDOWN.sub(lambda m: f"&#{ord(m[0])};", escape(text))
    return _LINE_BREAKS.sub("<br>", escaped)


def _cell_json(cell: NbCell) -> str:
    """A cell as it stands in the file, from its brace on, indented."""
    values = {
        key: _source_json(value) if key == "source" else _json(_split(key, value), 3)
        for key, value in cell.items()
    }
    fields = ",\n".join(f'   "{key}": {values[key]}' for key in sorted(values))
    return f"  {{\n{fields}\n  }}"


@lru_cache(maxsize=2048)
def _source_json(source: str) -> str:
    """A cell's source; the instances of a flow share nearly all of theirs."""
    return _json(source.splitlines(keepends=True), 3)


def _split(key: str, value: Any) -> Any:
    """A cell's value with its texts as lists of lines, where nbformat splits them."""
    if key == "attachments":
        return {name: _split_bundle(bundle) for name, bundle in value.items()}
    return [_split_output(output) for output in value] if key == "outputs" else value


def _split_output(output: dict[str, Any]) -> dict[str, Any]:
    kind = output["output_type"]
    if kind == "stream":
        return {**output, "text": output["text"].splitlines(keepends=True)}
    if kind in ("display_data", "execute_result"):
        return {**output, "data": _split_bundle(output["data"])}
    return output


def _split_bundle(bundle: Mapping[str, Any]) -> dict[str, Any]:
    return {
        mime: value.splitlines(keepends=True)
        if isinstance(value, str) and _is_split(mime)
        else value
        for mime, value in bundle.items()
    }


def _is_split(mime: str) -> bool:
    return mime.startswith("text/") or mime in _SPLIT_MIMES


def _json(value: Any, depth: int) -> str:
    """JSON as nbformat lays it out, for a place that many levels down."""
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError):
        text = _ENCODER.encode(_sayable(value))
    # A newline in the text is layout: those in strings are escaped.
    return text.replace("\n", "\n" + " " * depth)


def _sayable(value: Any) -> Any:
    """`value` with what JSON has no word for put otherwise."""
    if isinstance(value, Mapping):
        return {str(key): _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _utf8(text: str) -> bytes:
    """`text` as UTF-8; surrogates that make no pair become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
