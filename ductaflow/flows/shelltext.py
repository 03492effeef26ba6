"""Which environment variables a shell reads, told from the text of its commands.

A shell is another program: what it asks its environment cannot be seen from without. Told too much
rather than too little: what is only perhaps expanded counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import final

import attrs

EVERYTHING = "*"

# What a shell sets itself when it starts, or makes up (bash(1), "Shell Variables").
_ITS_OWN = frozenset({
    "PWD", "OLDPWD", "SHLVL", "_", "RANDOM", "SRANDOM", "SECONDS", "LINENO", "PPID", "UID", "EUID",
    "GROUPS", "IFS", "OPTARG", "OPTIND", "OPTERR", "REPLY", "PIPESTATUS", "FUNCNAME", "HOSTTYPE",
    "MACHTYPE", "OSTYPE", "SHELLOPTS", "HISTCMD", "DIRSTACK", "EPOCHSECONDS", "EPOCHREALTIME",
})  # fmt: skip
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_BRACED = re.compile(r"\{[#!]?(?=[A-Za-z_])")
_HEREDOC = re.compile(r"<<-?[ \t]*(\\?)(['\"]?)([^\s'\"<>;&|()]+)\2")
_TILDE = re.compile(r"~(?=[/\s:;&|)]|$)")
_ASSIGNED = re.compile(
    r"[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)="
    r"(?:'[^'\n]*'|\"[^\"\n]*\"|[^\s;&|\"'`$()]*)[ \t]*(?=;|\n|$)"
)
_LOOPED = re.compile(r"[ \t]*for[ \t]+([A-Za-z_]\w*)[ \t]+in\b[^;\n]*")
_CONTROL = re.compile(r"\b(?:if|while|until|case|for|function|select)\b|[({]|&&|\|\|")
_COMMAND = re.compile(
    r"(?:^|[;&|(`\n]|\b(?:then|do|else|exec|command|sudo)[ \t])[ \t]*"
    r"(printenv|env|set|export|declare|typeset|compgen)\b([^;&|\n)`]*)"
)
_SEPARATORS = " \t\n;&|("


def variables_in(text: str) -> frozenset[str]:
    """Names of the variables that a shell's commands expand; `*` if they ask for all.

    Args:
        text: The commands, in the syntax of sh and bash.
    """
    scanner = _Scanner(text)
    scanner.scan()
    assigned = _assigned(text, scanner.lines)
    found = {name for name, at in scanner.found if at <= assigned.get(name, at)}
    found.update(_printed(text))
    return frozenset(name for name in found if name not in _ITS_OWN and name[:5] != "BASH_")


def _assigned(text: str, lines: list[int]) -> dict[str, int]:
    """Where variables have been given a value in any case: before, they are the environment's."""
    found: dict[str, int] = {}
    control = _CONTROL.search(text)
    last = control.start() if control else len(text)
    for at in lines:
        match = _ASSIGNED.match(text, at)
        if match and match.end() <= last:
            found.setdefault(match[1], match.end())
        loop = _LOOPED.match(text, at)
        if loop and at <= last:
            found.setdefault(loop[1], loop.end())
    return found


def _printed(text: str) -> Iterator[str]:
    """What commands print that tell of the environment."""
    for match in _COMMAND.finditer(text):
        command, rest = match[1], re.sub(r"[\d&]*[<>].*", "", match[2]).split()
        words = [word for word in rest if not word.startswith("-") and "=" not in word]
        if command == "printenv" and words:
            yield from (word for word in words if _NAME.fullmatch(word))
        elif not words and (command in ("env", "printenv", "compgen") or len(rest) == 0):
            if command != "env" or "-i" not in rest:
                yield EVERYTHING
        elif not words and command != "set" and {"-p", "-x", "-px", "-xp"}.intersection(rest):
            yield EVERYTHING


@final
@attrs.define(eq=False)
class _Scanner:
    """A walk over a shell's text: quotes, comments, here-documents, and what is expanded.

    Attributes:
        text: The text.
        found: Names that are expanded, and where.
        lines: Where lines begin that are commands, no part of a quoted text.
    """

    text: str
    found: list[tuple[str, int]] = attrs.field(factory=list)
    lines: list[int] = attrs.field(factory=lambda: [0])
    _at: int = 0
    _inside: list[str] = attrs.field(factory=list)  # quotes, `(` and `((` that are open
    _documents: list[tuple[str, bool]] = attrs.field(factory=list)  # their ends, and if quoted

    def scan(self) -> None:
        """Go through all of it."""
        while self._at < len(self.text):
            self._step(self.text[self._at])

    @property
    def _quote(self) -> str:
        """The quotes that it is in, where only expansions mean something; `<<` of a document."""
        return self._inside[-1] if self._inside and self._inside[-1] in ('"', "<<") else ""

    def _step(self, char: str) -> None:
        if char == "\\":
            self._at += 2
        elif char == "$":
            self._expansion()
        elif char == '"' and self._quote != "<<":
            self._turn('"', closing=self._quote == '"')
        elif self._quote:
            self._at += 1
        elif char == "'":
            self._skip_to("'")
        elif char == "#" and self._at_word():
            self._at = self._end_of_line()
        elif char == "(":
            self._turn("((" if self.text.startswith("((", self._at) else "(", closing=False)
        elif char == ")":
            self._close()
        elif char == "\n":
            self._newline()
        else:
            self._other(char)

    def _other(self, char: str) -> None:
        if char == "<" and self._document():
            return
        if char == "~" and self._at_word("=:") and _TILDE.match(self.text, self._at):
            self.found.append(("HOME", self._at))
        name = _NAME.match(self.text, self._at) if "((" in self._inside else None
        if name is not None:
            self.found.append((name[0], self._at))
        self._at = name.end() if name is not None else self._at + 1

    def _expansion(self) -> None:
        start = self._at + 1
        if self.text.startswith("'", start) and not self._quote:  # $'…', where \' is no end
            end = re.compile(r"(?:[^'\\]|\\.)*'?", re.DOTALL).match(self.text, start + 1)
            self._at = end.end() if end else len(self.text)
        elif self.text.startswith("(", start):
            self._at = start
            self._turn("((" if self.text.startswith("((", start) else "(", closing=False)
        else:
            braced = _BRACED.match(self.text, start)
            name = _NAME.match(self.text, braced.end() if braced else start)
            if name is not None:
                self.found.append((name[0], self._at))
            self._at = name.end() if name is not None else start

    def _turn(self, what: str, *, closing: bool) -> None:
        if closing:
            self._inside.pop()
        else:
            self._inside.append(what)
        self._at += len(what)

    def _close(self) -> None:
        if self._inside:
            opened = self._inside.pop()
            if opened == "((" and self.text.startswith("))", self._at):
                self._at += 1
        self._at += 1

    def _skip_to(self, end: str) -> None:
        found = self.text.find(end, self._at + 1)
        self._at = len(self.text) if found < 0 else found + len(end)

    def _end_of_line(self) -> int:
        found = self.text.find("\n", self._at)
        return len(self.text) if found < 0 else found

    def _at_word(self, more: str = "") -> bool:
        return self._at == 0 or self.text[self._at - 1] in _SEPARATORS + more

    def _document(self) -> bool:
        if self.text.startswith("<<<", self._at):
            self._at += 3
            return True
        match = _HEREDOC.match(self.text, self._at)
        if match is not None and "((" not in self._inside:
            self._documents.append((match[3], bool(match[1] or match[2])))
            self._at = match.end()
        return match is not None and "((" not in self._inside

    def _newline(self) -> None:
        self._at += 1
        for end, quoted in self._documents:
            self._take_document(end, quoted=quoted)
        self._documents.clear()
        self.lines.append(self._at)

    def _take_document(self, end: str, *, quoted: bool) -> None:
        while self._at < len(self.text):
            stop = self._end_of_line()
            line = self.text[self._at : stop]
            if line.strip("\t") == end:
                self._at = stop
                return
            if not quoted:
                within = _Scanner(line, inside=["<<"])
                within.scan()
                self.found += [(name, self._at + at) for name, at in within.found]
            self._at = min(stop + 1, len(self.text))
