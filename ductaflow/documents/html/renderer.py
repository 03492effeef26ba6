"""Cells to fragments, with a memory for what many notebooks share."""

from __future__ import annotations

import hashlib
import html
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import attrs

from ductaflow.documents.html import page as pages
from ductaflow.documents.html.cache import BoundedCache
from ductaflow.documents.html.header import HEADER_CSS, Head, Heading, header
from ductaflow.documents.html.markup import calls_require, describe_images, has_math
from ductaflow.documents.html.shape import Kind, Words, emptied, filled, is_mark
from ductaflow.documents.html.text import ansi_to_html, encodable
from ductaflow.files import jsonio

if TYPE_CHECKING:
    from ductaflow.documents.html.lab import Lab

NbCell: TypeAlias = Mapping[str, Any]

_REMOVE_CELL: Final = frozenset({"remove-cell", "remove_cell"})
_REMOVE_INPUT: Final = frozenset({"remove-input", "remove_input"})
_REMOVE_OUTPUT: Final = frozenset({"remove-output", "remove_output"})
_HIDE_INPUT: Final = frozenset({"hide-input", "hide_input"})
_HIDE_OUTPUT: Final = frozenset({"hide-output", "hide_output"})
# All else in a cell's metadata, as the times of its execution, leaves no trace in the page.
_METADATA: Final = ("tags", "jupyter", "raw_mimetype")
_CONTENT: Final = ("cell_type", "source", "execution_count", "outputs", "attachments")
_ID_LATER: Final = "ductaflow-id-later"
_WRAPPER: Final = '<div class="jp-Cell-inputWrapper">'
_MEBIBYTE: Final = 1 << 20
_HEADING: Final = re.compile(
    r'<h([1-4])[^>]*? id="([^"]*)"[^>]*>(.*?)<a class="anchor-link"', re.DOTALL
)
_TAGS: Final = re.compile(r"<[^>]*>")


@attrs.frozen
class Fragment:
    """One cell as HTML.

    Attributes:
        html: The cell's element; empty for a cell that is not to be shown.
        needs: What the page around it must bring: `math`, `require`, `widgets`.
        headings: The headings in it.
    """

    html: str
    needs: frozenset[str] = frozenset()
    headings: tuple[Heading, ...] = ()


@final
class HtmlRenderer:
    """Renders cells as nbconvert's `lab` template does, and pages of them that need no network.

    Whole cells are kept by their content (without their id), for those that come out the same in
    every instance of a flow. For the others what the template makes of a cell without its texts is
    kept, and their highlighted code and Markdown apart.
    Threads may share a renderer.

    Attributes:
        cells: The cells kept.
        inputs: Cells without their texts, highlighted code, and Markdown.
    """

    def __init__(self, *, cells: int = 8 * _MEBIBYTE, inputs: int = 4 * _MEBIBYTE) -> None:
        """Make one with empty caches.

        Args:
            cells: Bytes of whole cells to keep.
            inputs: Bytes of inputs to keep.
        """
        self.cells: BoundedCache[Fragment] = BoundedCache(cells)
        self.inputs: BoundedCache[Fragment] = BoundedCache(inputs)
        self._loading = threading.Lock()
        self._loaded: Lab | None = None

    def warm_up(self) -> None:
        """Import nbconvert now rather than at the first cell; takes a good part of a second."""
        self._lab  # noqa: B018

    def cell(
        self,
        cell: NbCell,
        *,
        language: str = "python",
        fold_lines: int | None = None,
        scripts: bool = True,
    ) -> Fragment:
        """Render one cell.

        Args:
            cell: A cell as nbformat 4.5 writes it, with its texts as single strings.
            language: What its code is written in: a kernel's language or a Pygments lexer.
            fold_lines: Fold text outputs of more lines than this.
            scripts: Whether what outputs show may be made by scripts; if not, another of their
                forms is taken where they have one.
        """
        metadata = cell.get("metadata", {})
        tags = frozenset(metadata.get("tags", ()))
        if tags & _REMOVE_CELL:
            return Fragment("")
        content = {key: cell[key] for key in _CONTENT if key in cell}
        content["metadata"] = {key: metadata[key] for key in _METADATA if key in metadata}
        if "id" in cell:
            content["id"] = _ID_LATER
        if tags & _REMOVE_OUTPUT:
            content["outputs"] = []
        fragment = _remembered(
            self.cells,
            [content, language, fold_lines, scripts],
            lambda: self._rendered(content, tags, language, fold_lines, scripts),
        )
        own = html.escape(encodable(str(cell.get("id", ""))))
        return attrs.evolve(fragment, html=fragment.html.replace(_ID_LATER, own, 1))

    def page(
        self,
        fragments: Iterable[Fragment],
        *,
        title: str,
        widget_state: Mapping[str, Any] | None = None,
        head: Head | None = None,
    ) -> str:
        """Join cells to a page that holds all that it needs.

        Args:
            fragments: The cells, in their order.
            title: The page's title, as plain text.
            widget_state: The notebook's widget state (`version_major`, `version_minor` and
                `state`); without it, or for widgets that are not ipywidgets' own, their outputs'
                next best form is shown.
            head: What the bar over it says; None for no bar.
        """
        fragments = [f for f in fragments if f.html]
        needs = frozenset[str]().union(*(f.needs for f in fragments))
        body = "\n".join(f.html for f in fragments)
        may_run = head is None or head.options.scripts
        if not may_run:
            needs &= {"widgets"}  # of which the next best form is shown
            widget_state = None
        math, state = "math" in needs, None
        if "widgets" in needs:
            body, live = pages.choose_views(body, widget_state)
            if live and widget_state is not None:
                state = pages.script_json(widget_state)
                math = math or pages.labels_have_math(widget_state)
        return pages.assemble(
            body,
            title=title,
            css=self._lab.css if head is None else self._lab.css + HEADER_CSS,
            own_css=pages.style_text(head.options.css) if head else "",
            header=header(head, [h for f in fragments for h in f.headings]) if head else "",
            template=head.options.template if head else None,
            math=math,
            require="require" in needs,
            widget_state=state,
            may_run=may_run,
        )

    @property
    def _lab(self) -> Lab:
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    from ductaflow.documents.html.lab import Lab

                    self._loaded = Lab.load()
        return self._loaded

    def _rendered(
        self,
        content: Mapping[str, Any],
        tags: frozenset[str],
        language: str,
        fold_lines: int | None,
        scripts: bool,
    ) -> Fragment:
        cell = _tidied(content)
        shape, words = emptied(cell)
        long = tuple(_lines_to_fold(output, fold_lines) for output in cell.get("outputs", ()))
        fragment = _remembered(
            self.inputs,
            ["shape", shape, language, long, scripts],
            lambda: self._template(shape, tags, language, long, scripts),
        )
        needs = set(fragment.needs)

        def fill(taken: Words) -> str:
            part = self._filling(taken, language)
            needs.update(part.needs)
            return part.html

        text = filled(fragment.html, words, fill)
        headings = _headings(text) if content.get("cell_type") == "markdown" else ()
        return Fragment(text, frozenset(needs), headings)

    def _filling(self, words: Words, language: str) -> Fragment:
        """What the template's filters make of a text."""
        text, lab = words.text, self._lab
        if words.kind is Kind.CODE:
            asked = ["code", text, language]
            return _remembered(self.inputs, asked, lambda: Fragment(lab.code(text, language)))
        if words.kind is Kind.MARKDOWN:
            return _remembered(
                self.inputs, ["markdown", text], lambda: _markdown(*lab.markdown(text))
            )
        return Fragment(ansi_to_html(text) if words.kind is Kind.TERMINAL else text)

    def _template(
        self,
        cell: dict[str, Any],
        tags: frozenset[str],
        language: str,
        long: tuple[int, ...],
        scripts: bool,
    ) -> Fragment:
        """What the template makes of a cell.

        Args:
            cell: The cell.
            tags: Its tags.
            language: What it is written in.
            long: For each output the number of its lines if it is to be folded, else 0.
            scripts: Whether outputs may be made by scripts.
        """
        if tags & _REMOVE_INPUT:  # as nbconvert's preprocessor
            cell = {**cell, "metadata": {**cell["metadata"], "transient": {"remove_source": True}}}
        jupyter = cell["metadata"].get("jupyter", {})
        parts = _CellParts(
            fold_input=bool(tags & _HIDE_INPUT or jupyter.get("source_hidden")),
            fold_outputs=bool(tags & _HIDE_OUTPUT or jupyter.get("outputs_hidden")),
            long=long,
            scripts=scripts,
        )
        text = self._lab.render(cell, parts, language)
        # Cells can be reached by keyboard, as nbconvert's.
        text = text.replace(_WRAPPER, f'{_WRAPPER[:-1]} tabindex="0">', 1)
        return Fragment(text, frozenset(parts.needs))


_SHARED: Final = HtmlRenderer()


def renderer() -> HtmlRenderer:
    """The renderer that the whole process shares; what is slow in it comes with its first cell."""
    return _SHARED


@final
@attrs.define(eq=False)
class _CellParts:
    """Gives the template a cell's parts and notes what they need."""

    fold_input: bool
    fold_outputs: bool
    long: tuple[int, ...] = ()
    scripts: bool = True
    needs: set[str] = attrs.field(factory=set)
    _seen: int = 0
    _typeset: bool = False

    def input(self, render: Callable[[], str]) -> str:
        return _folded("Code", render()) if self.fold_input else render()

    def outputs(self, render: Callable[[], str]) -> str:
        return _folded("Output", render()) if self.fold_outputs else render()

    def output(self, render: Callable[[], str]) -> str:
        self._typeset = False
        lines = self.long[self._seen] if self._seen < len(self.long) else 0
        self._seen += 1
        text = describe_images(render())
        # The first such class is that of the template's own element around what the kernel sent.
        end = text.find('"', text.find("jp-OutputArea-output") + 1)
        if end < 0:
            return text
        process = " mathjax_process" if self._typeset else ""
        text = f'{text[:end]}{process}" tabindex="0"{text[end + 1 :]}'
        return _folded(f"Output of {lines:,} lines", text) if lines else text

    def choose(self, data: Mapping[str, Any], priority: list[str]) -> list[str]:
        forms = [p for p in priority if p in data]
        if not self.scripts:  # what scripts would show comes last
            forms.sort(key=lambda p: _is_script(p, data[p]))
        best = next(iter(forms), "")
        shown = data.get(best, "")
        if best == "text/latex" or (best == "text/html" and has_math(shown)):
            self.needs.add("math")
            self._typeset = True
        if _is_script(best, shown) and calls_require(shown):
            self.needs.add("require")
        return [best] if best else []

    def need(self, what: str) -> str:
        self.needs.add(what)
        return ""

    def markdown(self, source: str, render: Callable[[], tuple[str, bool]]) -> str:
        if is_mark(source):
            return source
        text, math = render()
        if math:
            self.needs.add("math")
        return text


def _is_script(kind: str, content: Any) -> bool:
    """Whether an output of this kind shows itself by a script."""
    if kind == "text/html":
        return isinstance(content, str) and "<script" in content.lower()
    return kind == "application/javascript"


def _markdown(text: str, math: bool) -> Fragment:
    return Fragment(text, frozenset({"math"} if math else ()))


def _remembered(
    cache: BoundedCache[Fragment], content: Any, render: Callable[[], Fragment]
) -> Fragment:
    key = hashlib.blake2b(jsonio.canonical(content).encode(), digest_size=20).digest()
    kept = cache.get(key)
    if kept is None:
        kept = render()
        cache.put(key, kept, sys.getsizeof(kept.html))
    return kept


def _tidied(value: Any) -> Any:
    """A copy of a cell, all of whose text UTF-8 can hold."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {key: _tidied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidied(item) for item in value]
    return value


def _lines_to_fold(output: Mapping[str, Any], limit: int | None) -> int:
    """How many lines of text an output shows, if they are more than the limit; else 0.

    A traceback is what its reader has come for: it is not folded.
    """
    text = output.get("text", "")
    if output.get("output_type") in ("display_data", "execute_result"):
        data = output.get("data", {})
        text = data.get("text/plain", "") if set(data) == {"text/plain"} else ""
    lines = str(text).rstrip("\n").count("\n") + 1
    return lines if limit is not None and lines > limit else 0


def _headings(text: str) -> tuple[Heading, ...]:
    return tuple(
        Heading(int(m[1]), m[2], _TAGS.sub("", m[3]).strip()) for m in _HEADING.finditer(text)
    )


def _folded(label: str, text: str) -> str:
    return f'<details class="ductaflow-folded"><summary>{label}</summary>\n{text}</details>'
