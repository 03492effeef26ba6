"""Text that a terminal would understand, as HTML; every function takes time linear in its input."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

import attrs

Colour: TypeAlias = "int | tuple[int, int, int] | None"

# Control Sequence Introducer, parameters, final byte (ECMA-48, 5.4).
_ESCAPE = re.compile(r"\x1b\[([^@-~\n]*)([@-~])")
# What HTML forbids in text: the controls, except the white space among them.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


@attrs.frozen
class Style:
    """How a terminal shows what is written next.

    Attributes:
        fg: Text colour: 0-15 from the palette, a red-green-blue triple, or None for the default.
        bg: Background, likewise.
        bold: Bold; also brightens the first eight palette colours.
        underline: Underlined.
        inverse: Text and background colour exchanged.
    """

    fg: Colour = None
    bg: Colour = None
    bold: bool = False
    underline: bool = False
    inverse: bool = False


PLAIN = Style()
_SWITCHES: dict[int, dict[str, bool]] = {
    1: {"bold": True},
    4: {"underline": True},
    5: {"bold": True},  # blinking
    7: {"inverse": True},
    21: {"bold": False},
    22: {"bold": False},
    24: {"underline": False},
    27: {"inverse": False},
}


def ansi_to_html(text: str) -> str:
    """Escape `text` for HTML, with its colour sequences as spans of nbconvert's `ansi-*` classes.

    Sequences that are not about colour are left out, other control characters shown as U+FFFD.
    """
    if "\x1b" not in text:
        return _escape(text)
    parts: list[str] = []
    style, start = PLAIN, 0
    for match in _ESCAPE.finditer(text):
        parts.append(_styled(text[start : match.start()], style))
        start = match.end()
        if match[2] == "m":
            style = _after(style, match[1])
    parts.append(_styled(text[start:], style))
    return "".join(parts)


def encodable(text: str) -> str:
    """`text` as UTF-8 can hold it: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _escape(text: str) -> str:
    return html.escape(_CONTROLS.sub("\ufffd", text), quote=False)


def _styled(text: str, style: Style) -> str:
    if not text or style == PLAIN:
        return _escape(text)
    return f"{_open_tag(style)}{_escape(text)}</span>"


@lru_cache(maxsize=1024)
def _open_tag(style: Style) -> str:
    fg, bg = style.fg, style.bg
    if style.bold and isinstance(fg, int) and fg < 8:
        fg += 8
    if style.inverse:
        fg, bg = bg, fg
    classes: list[str] = []
    rules: list[str] = []
    for colour, suffix, rule in ((fg, "fg", "color"), (bg, "bg", "background-color")):
        if isinstance(colour, int):
            bright = "-intense" if colour >= 8 else ""
            classes.append(f"ansi-{_NAMES[colour % 8]}{bright}-{suffix}")
        elif colour is not None:
            rules.append("{}: rgb({},{},{})".format(rule, *colour))
        elif style.inverse:
            classes.append(f"ansi-default-inverse-{suffix}")
    classes += ["ansi-bold"] * style.bold + ["ansi-underline"] * style.underline
    tag = "<span"
    if classes:
        tag += f' class="{" ".join(classes)}"'
    if rules:
        tag += f' style="{"; ".join(rules)}"'
    return tag + ">"


@lru_cache(maxsize=4096)
def _after(style: Style, parameters: str) -> Style:
    """The style after a "select graphic rendition" sequence (ECMA-48, 8.3.117)."""
    try:
        codes = iter([int(p) if p else 0 for p in parameters.split(";")])
    except ValueError:
        return style
    for code in codes:
        if code == 0:
            style = PLAIN
        elif code in _SWITCHES:
            style = attrs.evolve(style, **_SWITCHES[code])
        elif code in (38, 48):
            try:
                colour = _extended(codes)
            except ValueError:
                return style
            style = _coloured(style, code, colour)
        elif code in (39, 49):
            style = _coloured(style, code, None)
        elif 30 <= code <= 37:
            style = _coloured(style, code, code - 30)
        elif 40 <= code <= 47:
            style = _coloured(style, code, code - 40)
        elif 90 <= code <= 97:
            style = _coloured(style, code, code - 82)
        elif 100 <= code <= 107:
            style = _coloured(style, code, code - 92)
    return style


def _coloured(style: Style, code: int, colour: Colour) -> Style:
    """The style with one of its colours changed: 30-39 and 90-97 are codes for the text's."""
    if code < 40 or 90 <= code < 100:
        return attrs.evolve(style, fg=colour)
    return attrs.evolve(style, bg=colour)


def _extended(codes: Iterator[int]) -> Colour:
    """The colour that follows code 38 or 48, in xterm's way: `2;r;g;b` or `5;index`."""
    kind = next(codes, None)
    if kind == 2:
        rgb = tuple(islice(codes, 3))
        if len(rgb) == 3 and all(0 <= c <= 255 for c in rgb):
            return rgb
    elif kind == 5:
        index = next(codes, -1)
        if 0 <= index < 16:
            return index
        if index in range(16, 232):  # a cube of six levels each
            red, rest = divmod(index - 16, 36)
            r, g, b = (55 + 40 * level if level else 0 for level in (red, *divmod(rest, 6)))
            return r, g, b
        if index in range(232, 256):
            grey = 8 + 10 * (index - 232)
            return grey, grey, grey
    raise ValueError(kind)
