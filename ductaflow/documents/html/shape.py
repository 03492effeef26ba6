"""A cell without its words: cells that differ in text alone need the template only once.

    cell ──emptied()──▶ shape with marks ──template, once──▶ HTML with marks ──filled()──▶ HTML
                └────── what each mark stands for ─────────────────────────────┘

In the instances of a flow the same cells come again with other numbers in them. What is put in the
place of a mark is what the template's own filter would have made of the text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import attrs

# Letters and digits, which no filter changes; and nothing that a flow could print on purpose.
_MARK: Final = f"dfw{secrets.token_hex(12)}"
_MARKS: Final = re.compile(rf"{_MARK}n(\d+)z")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=\s]+")


class Kind(Enum):
    """What the template does with a text."""

    CODE = "code"  # highlighted
    TERMINAL = "terminal"  # escaped, with its colours
    MARKDOWN = "markdown"  # rendered
    VERBATIM = "verbatim"  # base64, which needs no escape


@attrs.frozen
class Words:
    """A text that was taken out of a cell.

    Attributes:
        kind: What is to be done with it.
        text: The text.
    """

    kind: Kind
    text: str


def is_mark(text: str) -> bool:
    """Whether a text is nothing but a mark."""
    return text.startswith(_MARK) and _MARKS.fullmatch(text) is not None


def emptied(cell: Mapping[str, Any]) -> tuple[dict[str, Any], list[Words]]:
    """A cell with marks in the place of its texts, and the texts.

    What the template looks at before it decides, as HTML that may hold scripts, stays where it is.

    Args:
        cell: A cell as nbformat 4.5 writes it, with its texts as single strings; it stays as it is.
    """
    words: list[Words] = []

    def mark(kind: Kind, text: Any) -> Any:
        if not isinstance(text, str) or not text:
            return text
        words.append(Words(kind, text))
        return f"{_MARK}n{len(words) - 1}z"

    shape = dict(cell)
    if cell["cell_type"] == "code":
        shape["source"] = mark(Kind.CODE, cell["source"])
        shape["outputs"] = [_emptied_output(output, mark) for output in cell.get("outputs", ())]
    elif cell["cell_type"] == "markdown" and not cell.get("attachments"):
        shape["source"] = mark(Kind.MARKDOWN, cell["source"])
    return shape, words


def _emptied_output(
    output: Mapping[str, Any], mark: Callable[[Kind, Any], Any]
) -> Mapping[str, Any]:
    if output.get("output_type") == "stream":
        return {**output, "text": mark(Kind.TERMINAL, output.get("text"))}
    data = output.get("data")
    if not isinstance(data, Mapping):
        return output
    data = dict(data)
    if "text/plain" in data:
        data["text/plain"] = mark(Kind.TERMINAL, data["text/plain"])
    image = data.get("image/png")
    if isinstance(image, str) and _BASE64.fullmatch(image):
        data["image/png"] = mark(Kind.VERBATIM, image)
    return {**output, "data": data}


def filled(html: str, words: list[Words], fill: Callable[[Words], str]) -> str:
    """The template's HTML with each mark replaced.

    Args:
        html: What the template made of a shape.
        words: The texts that were taken out.
        fill: What becomes of a text; not asked for those that the template does not show.
    """

    def put(found: re.Match[str]) -> str:
        number = int(found[1])
        return fill(words[number]) if number < len(words) else found[0]

    return _MARKS.sub(put, html)
