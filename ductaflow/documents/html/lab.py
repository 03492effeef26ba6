"""nbconvert's `lab` template, set up to render single cells; imported when the first one is.

Importing this module takes a good part of a second, for it imports nbconvert. The template, its
filters and its styles are nbconvert's own; what is replaced is said where it is.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, final

import attrs
import nbconvert
import nbformat
from jinja2 import Template, TemplateNotFound, pass_context
from jinja2.runtime import Context
from mistune import InlineState
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
    MathInlineParser,
)
from nbconvert.preprocessors import HighlightMagicsPreprocessor
from pygments import highlight  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]

from ductaflow.documents.html.harmless import harmless
from ductaflow.documents.html.markup import describe_images, has_math, is_price
from ductaflow.documents.html.page import script_json, script_text, stylesheet
from ductaflow.documents.html.shape import is_mark
from ductaflow.documents.html.text import ansi_to_html
from ductaflow.errors import ArtifactError

WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"

# One cell of the template: its page is left out, its costly blocks are asked for through `parts`.
# Of the blocks that differ from nbconvert's: an output that is a widget is rendered both as it
# and as its next best form, for only the page knows whether there is a state for it; a script
# finds its element by its own place, as an id would be the same for all who share the fragment;
# Markdown that the kernel sent may hold a value, which must bring no script.
_CELL_TEMPLATE = """\
{%- extends 'index.html.j2' -%}
{%- block header -%}{%- endblock -%}
{%- block body_header -%}{%- endblock -%}
{%- block body_footer -%}{%- endblock -%}
{%- block footer -%}{%- endblock -%}
{%- block input_group -%}{{ parts.input(super) }}{%- endblock -%}
{%- block output_group -%}{{ parts.outputs(super) }}{%- endblock -%}
{%- block output -%}{{ parts.output(super) }}{%- endblock -%}
{%- block data_priority -%}
{%- set widget_view = 'application/vnd.jupyter.widget-view+json' -%}
{%- if widget_view in output.data -%}
{{- parts.need('widgets') -}}
<!--ductaflow:view {{ output.data[widget_view].model_id | e }}-->
<div class="jupyter-widgets jp-OutputArea-output">
<script type="{{ widget_view }}">{{ output.data[widget_view] | script_json }}</script>
</div>
<!--ductaflow:or-->{{ super() }}<!--ductaflow:end-->
{%- else -%}{{ super() }}{%- endif -%}
{%- endblock -%}
{%- block data_markdown -%}
<div class="jp-RenderedHTMLCommon jp-RenderedMarkdown jp-OutputArea-output"
 data-mime-type="text/markdown">
{{ output.data['text/markdown'] | markdown2html | harmless }}
</div>
{%- endblock -%}
{%- block data_mermaid -%}
<div class="jp-Mermaid">
<pre class="mermaid">
{{ output.data['text/vnd.mermaid'].strip() | e }}
</pre>
</div>
{%- endblock -%}
{%- block data_javascript -%}
<div class="jp-RenderedJavaScript jp-OutputArea-output" data-mime-type="application/javascript">
<script type="text/javascript">
var element = document.currentScript.parentElement;
{{ output.data['application/javascript'] | script_text }}
</script>
</div>
{%- endblock -%}
"""
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)


class Parts(Protocol):
    """What the template asks of whoever renders a cell; `render` is a block of the template."""

    def input(self, render: Callable[[], str]) -> str:
        """The input area."""

    def outputs(self, render: Callable[[], str]) -> str:
        """The output area."""

    def output(self, render: Callable[[], str]) -> str:
        """One output within it."""

    def choose(self, data: Mapping[str, Any], priority: list[str]) -> list[str]:
        """The one form of `data` to show, in a list; an empty one if there is none."""

    def need(self, what: str) -> str:
        """Note that the page must bring `what`; an empty string."""

    def markdown(self, source: str, render: Callable[[], tuple[str, bool]]) -> str:
        """Markdown as HTML; `render` says also whether there is math in it."""


class SafeHtml(str):
    """HTML made here of escaped text, which need not be sanitised."""

    __slots__ = ()


class _Exporter(HTMLExporter):  # type: ignore[misc]
    """nbconvert's exporter; it also finds its templates where `pip install --target` puts them."""

    def get_prefix_root_dirs(self) -> list[str]:
        """The folders in which templates are looked for."""
        beside = Path(nbconvert.__file__).parents[1] / "share" / "jupyter"
        return [*super().get_prefix_root_dirs(), str(beside)]


@final
@attrs.define(eq=False)
class Lab:
    """nbconvert's template for one cell, and the styles of its page.

    Attributes:
        css: The styles of nbconvert's page that cells can use.
    """

    css: str
    _template: Template
    _resources: dict[str, Any]
    _highlighter: _Highlighter
    _markdown: _MarkdownRenderer
    _strip_files_prefix: Callable[[str], str]

    @classmethod
    def load(cls) -> Lab:
        """Set up nbconvert's exporter and take from it what is needed.

        Raises:
            ArtifactError: nbconvert's template is not there.
        """
        try:
            exporter = _Exporter()
            page, resources = exporter.from_notebook_node(nbformat.v4.new_notebook())
        except (ValueError, TemplateNotFound) as e:
            raise ArtifactError(
                f"nbconvert's template for HTML was not found: {' '.join(str(e).split())}. Install "
                "nbconvert anew, or run with html=False"
            ) from e
        # Templates are compiled anew, for filters that see the context; and not looked up on disk
        # at each cell.
        environment = exporter.environment.overlay(auto_reload=False)
        priority = environment.filters["filter_data_type"].display_data_priority
        clean_html = environment.filters["clean_html"]
        highlighter, markdown = _Highlighter(), _MarkdownRenderer()
        environment.filters.update(
            ansi2html=ansi_to_html,
            clean_html=lambda html: html if isinstance(html, SafeHtml) else clean_html(html),
            filter_data_type=_chooser([p for p in priority if p != WIDGET_VIEW]),
            harmless=harmless,
            highlight_code=highlighter.filter,
            markdown2html=_markdown_filter(markdown),
            script_json=script_json,
            script_text=script_text,
        )
        return cls(
            css=stylesheet("\n".join(_STYLE.findall(page))),
            template=environment.from_string(_CELL_TEMPLATE),
            resources=resources,
            highlighter=highlighter,
            markdown=markdown,
            strip_files_prefix=environment.filters["strip_files_prefix"],
        )

    def code(self, source: str, language: str) -> str:
        """Code as the template's filter highlights it."""
        return self._highlighter.html(source, language)

    def markdown(self, source: str) -> tuple[str, bool]:
        """Markdown without attachments as the template's filters render it; is there math in it?"""
        text, math = self._markdown.html(source, {})
        return self._strip_files_prefix(text), math

    def render(self, cell: Mapping[str, Any], parts: Parts, language: str) -> str:
        """The cell's HTML, with the parts that `parts` gives."""
        return self._template.render(
            nb={"cells": [cell], "metadata": {}},
            resources=self._resources,
            parts=parts,
            language=language,
        )


def _chooser(priority: list[str]) -> Callable[[Context, Mapping[str, Any]], list[str]]:
    @pass_context
    def choose(context: Context, data: Mapping[str, Any]) -> list[str]:
        chosen: list[str] = context["parts"].choose(data, priority)
        return chosen

    return choose


_COLOURED = 200_000  # characters of a cell


class _Highlighter:
    """Pygments with nbconvert's choice of lexer, and lexers and formatters kept."""

    def __init__(self) -> None:
        self._magic = HighlightMagicsPreprocessor().which_magic_language
        self._tools: dict[str, tuple[Any, Any]] = {}

    @property
    def filter(self) -> Callable[..., str]:
        @pass_context
        def highlight_code(context: Context, source: str, metadata: object = None) -> str:  # noqa: ARG001
            return SafeHtml(source) if is_mark(source) else self.html(source, context["language"])

        return highlight_code

    def html(self, source: str, language: str) -> str:
        name = "ipython3" if language == "python" else language
        if len(source) > _COLOURED:
            name = "text"  # data, as a config of thousands of items; colours would take a minute
        if name.startswith("ipython"):
            lexer, _ = self._tools_for(self._magic(source) or name)
        else:
            lexer, _ = self._tools_for(name)
        _, formatter = self._tools_for(name)
        return SafeHtml(highlight(source or " ", lexer, formatter))

    def _tools_for(self, name: str) -> tuple[Any, Any]:
        if name not in self._tools:
            try:
                lexer = get_lexer_by_name(name)
            except ClassNotFound:
                lexer = get_lexer_by_name("text")
            # nbconvert writes the space, too.
            self._tools[name] = lexer, HtmlFormatter(cssclass=f" highlight hl-{name}")
        return self._tools[name]


class _Inline(MathInlineParser):  # type: ignore[misc]
    """nbconvert's inline parser, which leaves amounts of money alone."""

    def parse_inline_math_tex(self, m: re.Match[str], state: InlineState) -> int | None:
        if is_price(m["math_inline_tex"], state.src[m.end() : m.end() + 1]):
            return None
        end: int = super().parse_inline_math_tex(m, state)
        return end


class _Renderer(IPythonRenderer):  # type: ignore[misc]
    """nbconvert's renderer, which notices math and hides all other dollars from MathJax."""

    math = False
    attachments: Mapping[str, Any]

    def text(self, text: str) -> str:
        html: str = super().text(text)
        return html.replace("$", '<span class="mathjax_ignore">$</span>')

    def block_math(self, body: str) -> str:
        return self._noticed(super().block_math(body))

    def inline_math(self, body: str) -> str:
        return self._noticed(super().inline_math(body))

    def latex_environment(self, name: str, body: str) -> str:
        return self._noticed(super().latex_environment(name, body))

    def block_html(self, html: str) -> str:
        self.math = self.math or has_math(html)
        return str(super().block_html(html))

    def image(self, text: str, url: str, title: str | None = None) -> str:
        # A missing attachment spoils its image, not the report.
        name = url.removeprefix("attachment:")
        if name != url and name not in self.attachments:
            self.attachments = {**self.attachments, name: {"image/png": ""}}
        return str(super().image(text, url, title))

    def _noticed(self, html: str) -> str:
        self.math = True
        return html


class _MarkdownRenderer:
    """One Markdown parser for all, as making one takes longer than a cell does."""

    def __init__(self) -> None:
        self._renderer = _Renderer(escape=False)
        self._markdown = MarkdownWithMath(self._renderer, inline=_Inline(hard_wrap=False))
        # The renderer has state; under the GIL, waiting for it loses nothing.
        self._lock = threading.Lock()

    def html(self, source: str, attachments: Mapping[str, Any]) -> tuple[str, bool]:
        with self._lock:
            self._renderer.attachments = attachments
            self._renderer.math = False
            html = self._markdown.render(source)
            return describe_images(html), self._renderer.math


def _markdown_filter(renderer: _MarkdownRenderer) -> Callable[[Context, str], str]:
    @pass_context
    def markdown2html(context: Context, source: str) -> str:
        attachments = context["cell"].get("attachments") or {}
        parts: Parts = context["parts"]
        return parts.markdown(source, lambda: renderer.html(source, attachments))

    return markdown2html
