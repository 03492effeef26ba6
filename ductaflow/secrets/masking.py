"""Texts and bytes without the secrets in them: plain, escaped, encoded, coloured, in two parts."""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, final
from urllib.parse import quote, quote_plus

import attrs

SHORTEST = 4
"""Characters from which a secret is masked; shorter ones are everywhere."""

_PROTOCOL = frozenset(
    {"status", "name", "execution_state", "execution_count", "comm_id", "observed"}
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours and other commands to a terminal
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # links and titles
    r"|\x1b[ -/]+[0-~]|\x1b[0-Z\\^-~]"
)
_PART_OF_ESCAPE = re.compile(
    r"(?:\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*)|\x9b[0-?]*[ -/]*)\Z"
)
_IN_BYTES = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")  # beside all forms in UTF-8
_END = 8  # characters of a secret's beginning or end that tell that it was shortened
_LINE = 12  # characters from which a line of a secret counts by itself
_ENCODED = 8  # likewise of what a part of a base64 text has of it
_MOST_HELD = 8_000  # characters of a stream, commands to a terminal and all


@attrs.frozen
class _Plain:
    """A text without commands to a terminal, the beginning of one at its end among them.

    Attributes:
        text: What is left.
        size: Characters of the text that it is of.
        parts: Where each part begins that lies between two commands: here, and there.
    """

    text: str
    size: int
    parts: tuple[list[int], list[int]]

    @classmethod
    def whole(cls, text: str) -> _Plain:
        """The text as it is."""
        return cls(text, len(text), ([0], [0]))

    @classmethod
    def of(cls, text: str) -> _Plain:
        """The text without commands."""
        parts, here, there, end, length = [], [0], [0], 0, 0
        for match in chain(_ESCAPE.finditer(text), _PART_OF_ESCAPE.finditer(text)):
            parts.append(text[end : match.start()])
            length, end = length + len(parts[-1]), match.end()
            here.append(length)
            there.append(end)
        parts.append(text[end:])
        return cls("".join(parts), len(text), (here, there))

    def place(self, index: int) -> int:
        """Where a character of it stands in the whole text; the whole's end for its own end."""
        if index >= len(self.text):
            return self.size
        here, there = self.parts
        part = bisect_right(here, index) - 1
        return there[part] + index - here[part]


@final
class Masker:
    """Masks some secrets, and remembers what may be the beginning of one."""

    def __init__(self, values: Iterable[str], mask: str) -> None:
        """Values shorter than `SHORTEST` are left alone."""
        values = tuple(values)
        self._mask = mask
        self._forms = sorted(
            {form for value in values if len(value) >= SHORTEST for form in _forms(value)},
            key=lambda form: (-len(form), form),
        )
        long = [value for value in values if len(value) >= SHORTEST]
        patterns = [*map(re.escape, self._forms), *map(_percent, long), *map(_shortened, long)]
        self._pattern = re.compile("|".join(filter(None, patterns)))
        self._numbers = {form for form in self._forms if _NUMBER.fullmatch(form)}
        raw = {form.encode("utf-8", "surrogatepass") for form in self._forms}
        raw |= {value.encode(code, "surrogatepass") for value in long for code in _IN_BYTES}
        self._bytes = re.compile(b"|".join(map(re.escape, sorted(raw, key=lambda r: (-len(r), r)))))
        self._held: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._forms)

    def text(self, text: str) -> str:
        """A text, masked; what colours a part of a secret stays behind the mask."""
        if not self._forms:
            return text
        text = self._pattern.sub(self._mask, text)
        if "\x1b" not in text and "\x9b" not in text:
            return text
        parts, end = [], 0
        for begin, after in self._found(_Plain.of(text)):
            parts += [text[end:begin], self._mask, *_ESCAPE.findall(text[begin:after])]
            end = after
        return "".join([*parts, text[end:]])

    def binary(self, data: bytes) -> bytes:
        """Bytes, masked by as many asterisks, so that what they are of keeps its shape."""
        return self._bytes.sub(lambda found: b"*" * len(found[0]), data) if self._forms else data

    def tree(self, value: Any) -> Any:
        """The same of every text in JSON-like data, keys too."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.tree(key): self.tree(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.tree(item) for item in value]
        if self._numbers and type(value) in (int, float) and str(value) in self._numbers:
            return self._mask
        return value

    def content(self, content: dict[str, Any]) -> dict[str, Any]:
        """The same of what a message holds; the protocol's own words stay, whatever a secret is."""
        return {
            key: value
            if key in _PROTOCOL
            else {name: self.tree(item) for name, item in value.items()}
            if isinstance(value, dict)
            else self.tree(value)
            for key, value in content.items()
        }

    def stream(self, name: str, text: str) -> str:
        """What can be shown of a stream by now; what may go on to be a secret is held back."""
        if not self._forms:
            return text
        text = self._held.pop(name, "") + text
        cut = self._cut(text)
        if len(text) - cut > _MOST_HELD:
            cut = len(text)
        if cut < len(text):
            self._held[name] = text[cut:]
        return self.text(text[:cut])

    def _cut(self, text: str) -> int:
        """Up to where a text can be shown: in no secret, with or without commands to a terminal."""
        views = [_Plain.whole(text)]
        if "\x1b" in text or "\x9b" in text:
            views.append(_Plain.of(text))
        cut = min(view.place(self._beginning(view.text)) for view in views)
        found = sorted({places for view in views for places in self._found(view)}, reverse=True)
        for begin, after in found:  # the last first: what is before one may be in another
            if begin < cut < after:
                cut = begin
        return cut

    def _found(self, view: _Plain) -> Iterator[tuple[int, int]]:
        """Where secrets stand: from where to where in the text that it is a view of."""
        for match in self._pattern.finditer(view.text):
            yield view.place(match.start()), view.place(match.end() - 1) + 1

    def rest(self, name: str) -> str:
        """What was held back of a stream, which has not become a secret."""
        return self.text(self._held.pop(name, ""))

    def _beginning(self, text: str) -> int:
        """Where in a text the beginning of a form stands that the text does not end."""
        for length in range(min(len(text), len(self._forms[0]) - 1), 0, -1):
            end = text[-length:]
            if any(len(form) > length and form.startswith(end) for form in self._forms):
                return len(text) - length
        return len(text)


def _percent(value: str) -> str:
    """A pattern of a secret in a URL, whichever of its characters are escaped there."""
    if value.isalnum() and value.isascii():
        return ""
    parts = []
    for character in value:
        code = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
        plain = re.escape(character)
        parts.append(
            plain if character.isalnum() and character.isascii() else f"(?:{plain}|(?i:{code}))"
        )
    return "".join(parts)


def _shortened(value: str) -> str:
    """A pattern of a secret of which a display shows the beginning or the end only."""
    if len(value) < 2 * _END:
        return ""
    first, last = re.escape(value[:_END]), re.escape(value[-_END:])
    most = len(value)
    return rf"{first}\S{{0,{most}}}?(?:\.\.\.|…)|(?:\.\.\.|…)\S{{0,{most}}}?{last}"


def _forms(value: str) -> Iterator[str]:
    """A secret as it may stand in a text."""
    lines = [line.strip() for line in value.splitlines()]
    for part in {value, *(line for line in lines if len(line) >= _LINE)}:
        once = set(_escaped(part))
        yield part
        yield from once
        for form in once:
            yield from _escaped(form)
    yield from _encoded(value.encode("utf-8", "surrogatepass"))


def _escaped(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    yield text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    raw = text.encode("utf-8", "surrogatepass")
    yield repr(raw)[2:-1]
    for safe in ("", "/"):
        yield quote(raw, safe=safe)
        yield quote_plus(raw, safe=safe)


def _encoded(raw: bytes) -> Iterator[str]:
    """What base64 makes of it wherever it stands in a longer text."""
    yield base64.b64encode(raw).decode()
    yield base64.urlsafe_b64encode(raw).decode()
    for before in range(3):
        first = (before * 8 + 5) // 6
        last = (before + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            part = encode(b"\0" * before + raw).decode()[first:last]
            if len(part) >= _ENCODED:
                yield part
