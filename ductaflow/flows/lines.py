"""On which line of its file each cell of a flow begins."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMENT = re.compile(r"^(\s*)(?:#'|//|--|;;|[#%;']) ?")
_TRIPLE_QUOTE = re.compile(r"^\s*[rR]?(?:\"\"\"|''')|(?:\"\"\"|''')\s*$")


def align(cells: Sequence[tuple[str, str]], text: str) -> list[int | None]:
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


LINE_END = re.compile(r"\r\n|\r|\n")


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    """Lines as jupytext cuts them, each with its number in an editor.

    It also cuts at form feeds and the like at the beginning of a line.
    """
    guarded, restore = guard_line_ends(text)
    lines = enumerate(LINE_END.split(guarded), 1)
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


_NO_LINE_END = re.compile("(?<![\n\r])[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Characters at which `str.splitlines`, which jupytext uses, ends a line, and Python does not. At
the beginning of a line they are left alone: there they stand between parts of a file."""


def guard_line_ends(text: str) -> tuple[str, dict[int, str]]:
    """A text in which other characters stand for these, and a table that brings them back."""
    found = sorted({*_NO_LINE_END.findall(text)})
    free = (chr(c) for c in range(0xE000, 0xF8FF) if chr(c) not in text)
    stand_in = dict(zip(found, free, strict=False))
    guarded = _NO_LINE_END.sub(lambda match: stand_in[match[0]], text)
    return guarded, {ord(other): own for own, other in stand_in.items()}
