r"""Texts as a terminal may print them: colours stay, everything else that commands it is shown.

A flow's config, output or error may hold sequences that set the clipboard, the title or a link,
clear the screen, or write over what stands there. Of a sequence its ESC becomes the visible `␛`,
and of other control characters theirs (`␈`, `␍`); what has no picture is written as Python does
(`\x9b`, `\u202e`).
"""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
_NEVER = f"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff{_TURNING}"
_HARMFUL = re.compile(f"{_COLOUR.pattern}|\r\n|[{_NEVER}]")
_BAR = r"[\r\b]|\x1b\[[0-2]?K|\x1b\[[0-9]{0,3}A"  # what progress bars do
_HARMFUL_LIVE = re.compile(f"{_COLOUR.pattern}|{_BAR}|[{_NEVER}]")
_FOLLOWING = {"5": 2, "2": 4}  # what belongs to an extended colour, `38;5;N` or `38;2;R;G;B`


def harmless(text: str, *, live: bool = False) -> str:
    """A text that cannot command a terminal but to change colours.

    Args:
        text: The text; it may have many lines.
        live: Whether it comes while it is made, so that a progress bar's carriage returns and
            backspaces, and its sequences to clear a line or go up one, keep their meaning.
    """
    if text.isprintable():
        return text
    if live:
        return _HARMFUL_LIVE.sub(lambda m: m[0] if m[0] in "\r\b" else _shown(m), text)
    return _HARMFUL.sub(_shown, text)


def one_line(text: str) -> str:
    """A text on one line without colours: blanks for line ends and tabs, the rest as `harmless`."""
    if text.isprintable():
        return text
    blank = re.sub(r"\r\n|[\n\t\x0b\x0c\x85\u2028\u2029]", " ", _COLOUR.sub("", text))
    return _HARMFUL.sub(_shown, blank)


def _shown(found: re.Match[str]) -> str:
    text = found[0]
    if text == "\r\n":
        return "\n"
    if len(text) > 1:
        return f"␛{text[1:]}" if _conceals(text) else text
    return _picture(text)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else character.encode("unicode_escape").decode()


def _conceals(sequence: str) -> bool:
    """Whether a sequence for colours hides what follows (SGR 8)."""
    numbers = iter(sequence[2:-1].split(";"))
    for number in numbers:
        if number in ("38", "48", "58"):
            for _ in range(_FOLLOWING.get(next(numbers, ""), 0)):
                next(numbers, None)
        elif number.lstrip("0") == "8":
            return True
    return False
