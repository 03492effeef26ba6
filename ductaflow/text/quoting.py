"""Names in generated files: how each language holds a text that may contain anything.

A file's name may contain quotes, line ends and commands. Python literals are `config.quoted`'s, and
a POSIX shell's words `shlex.quote`'s; what else generated files need is here. A language that
cannot hold a text has it refused.
"""

from __future__ import annotations

import re

from ductaflow.errors import ConversionError

_NOT_IN_BATCH = re.compile('["\x00-\x1f\x7f]')


def visible(text: str, kept: str = "") -> str:
    """A text on one line: line ends, escapes and other invisible characters as Python writes them.

    Args:
        text: The text.
        kept: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )


def docstring(text: str) -> str:
    """A text as a Python docstring of one line, with its quotes."""
    return f'"""{python_text(text)}"""'


def python_text(text: str) -> str:
    """A text as it stands between double quotes in Python, single or triple."""
    return visible(text.replace("\\", "\\\\")).replace('"', '\\"')


def batch(text: str, what: str) -> str:
    """A text as it stands between double quotes of a batch file.

    Args:
        text: The text.
        what: What it names, for the message.

    Raises:
        ConversionError: It has a character that no file name on Windows has and that would end the
            quotes or the line.
    """
    if _NOT_IN_BATCH.search(text):
        raise ConversionError(
            f"{what} {text!r} has a quote or a control character, which no batch file can hold; "
            "rename it"
        )
    return text.replace("%", "%%")


def vs_code(text: str, what: str) -> str:
    """A text as a value in VS Code's launch configurations, where `${…}` is a variable or command.

    Args:
        text: The text.
        what: What it names, for the message.

    Raises:
        ConversionError: It has a `${`, which nothing can escape there.
    """
    if "${" in text:
        raise ConversionError(
            f"{what} {text!r} has `${{`, which VS Code would take for a variable or a command; "
            "rename the folder"
        )
    return text
