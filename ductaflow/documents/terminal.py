"""One line of a stream as a terminal shows it: carriage returns, backspaces, colours.

The rules are JupyterLab's (`processText` in `packages/outputarea/src/model.ts`): a carriage
return moves the cursor to the start of the line and what follows overwrites as many characters
as it has; a backspace takes the character before the cursor away; nothing reaches back over a
newline. Unlike there, an escape sequence takes no room in the line, so a coloured progress bar
is not cut in the middle of a colour.
"""

from __future__ import annotations

import re
from typing import Final, final

import attrs

LINE_LIMIT: Final = 65_536
"""Characters after which a line without a newline is taken as written for good."""

_MOVE = re.compile(r"[\r\b]")
_PIECE = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|[\r\b]|[^\x1b\r\b]+|\x1b")
_CUT_ESCAPE = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8})?\Z")
_RESET = re.compile(r"\x1b\[0*(?:;[0-9;]*)?m")
_PEN_LIMIT = 8


@final
@attrs.define(eq=False)
class Line:
    """The line that a stream is writing, in time linear in what is written.

    As long as nothing moves the cursor back, the text is kept as it came. From the first move
    on, the line is a list of cells: a character, led by the colour sequences in force (its pen).
    """

    _plain: list[str] = attrs.field(factory=list, init=False)
    _length: int = attrs.field(default=0, init=False)
    _returned: bool = attrs.field(default=False, init=False)
    _cells: list[str] | None = attrs.field(default=None, init=False)
    _cursor: int = attrs.field(default=0, init=False)
    _pen: tuple[str, ...] = attrs.field(default=(), init=False)
    _styled: bool = attrs.field(default=False, init=False)
    _cut: str = attrs.field(default="", init=False)

    def write(self, text: str) -> str:
        """Write `text`, which has no newline, at the cursor.

        Returns:
            What the line gave away because it outgrew `LINE_LIMIT`; nearly always empty.
        """
        if self._cells is not None:
            return self._draw(self._cells, text)
        if self._returned:
            # A return may belong to "\r\n", so the line stays as it is until text follows.
            return self._move("\r" + text) if text.strip("\r") else ""
        move = _MOVE.search(text)
        if move is None:
            return self._append(text)
        left = self._append(text[: move.start()])
        moved = text[move.start() :]
        if not moved.strip("\r"):
            self._returned = True
            return left
        return left + self._move(moved)

    def finish(self) -> str:
        """End the line; the next one begins empty.

        Returns:
            Its text, without a newline.
        """
        text = self.text()
        self._plain, self._length, self._returned = [], 0, False
        self._cells, self._cursor, self._pen = None, 0, ()
        self._styled, self._cut = False, ""
        return text

    def text(self) -> str:
        """The line as it stands."""
        if self._cells is None:
            return "".join(self._plain)
        return self._drawn(self._cells) + self._cut

    def _drawn(self, cells: list[str]) -> str:
        """The text of the cells, with no more colour sequences than they need."""
        if not self._styled:
            return "".join(cells)
        parts: list[str] = []
        before = ""
        # The last, made-up cell leaves the terminal in the colour that the stream had set.
        for cell in (*cells, "".join(self._pen) + " "):
            pen = cell[:-1]
            if pen != before:
                parts.append(_repen(before, pen))
                before = pen
            parts.append(cell[-1])
        return "".join(parts[:-1])

    def _append(self, text: str) -> str:
        """Keep `text` as it came; return what exceeds the limit, cut at multiples of it."""
        self._plain.append(text)
        self._length += len(text)
        if self._length < LINE_LIMIT:
            return ""
        whole = "".join(self._plain)
        self._length = len(whole) % LINE_LIMIT
        left = whole[: len(whole) - self._length]
        self._plain = [whole[len(left) :]]
        return left

    def _move(self, text: str) -> str:
        """Turn the line into cells, then write `text`, the first that moves the cursor."""
        cells = self._cells = []
        drawn = "".join(self._plain)
        self._plain = []
        return self._draw(cells, drawn) + self._draw(cells, text)

    def _draw(self, cells: list[str], text: str) -> str:
        """Write `text` into the cells; an escape sequence cut off at its end waits for more."""
        text = self._cut + text
        cut = _CUT_ESCAPE.search(text)
        self._cut = cut[0] if cut else ""
        left = []
        for piece in _PIECE.findall(text[: cut.start()] if cut else text):
            if piece == "\r":
                self._cursor = 0
            elif piece == "\b":
                if self._cursor:
                    self._cursor -= 1
                    del cells[self._cursor : self._cursor + 1]
            elif piece.startswith("\x1b["):
                self._escape(cells, piece)
            else:
                left.append(self._put(cells, piece))
        return "".join(left)

    def _put(self, cells: list[str], run: str) -> str:
        """Overwrite from the cursor with the printable `run`."""
        pen = "".join(self._pen)
        new = [pen + character for character in run] if pen else list(run)
        # Where an erased line left the cursor beyond its end, blanks lie between.
        cells.extend(" " * (self._cursor - len(cells)))
        left = []
        start = 0
        while start < len(new):
            part = new[start : start + LINE_LIMIT - self._cursor]
            cells[self._cursor : self._cursor + len(part)] = part
            self._cursor += len(part)
            start += len(part)
            if self._cursor == LINE_LIMIT:
                left.append(self._drawn(cells))
                cells.clear()
                self._cursor = 0
        return "".join(left)

    def _escape(self, cells: list[str], sequence: str) -> None:
        """Obey a colour or an erase-in-line; any other sequence is dropped."""
        if sequence.endswith("m"):
            self._styled = True
            if _RESET.fullmatch(sequence):
                self._pen = (sequence,)
            else:
                others = [s for s in self._pen if s != sequence]
                self._pen = (*others[1 - _PEN_LIMIT :], sequence)
        elif sequence in ("\x1b[K", "\x1b[0K"):
            del cells[self._cursor :]
        elif sequence == "\x1b[2K":
            cells.clear()


def _repen(before: str, after: str) -> str:
    """Sequences that turn one pen into another."""
    if after.startswith(before):
        return after[len(before) :]
    return after if _RESET.match(after) else "\x1b[0m" + after
