"""The part of a stylesheet that a report can use."""

from __future__ import annotations

import re
from collections.abc import Iterator

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CLASS = re.compile(r"\.(-?[A-Za-z_][\w-]*)")
# A custom property that holds one of JupyterLab's icons, for menus and toolbars.
_ICON = re.compile(r"\s*--jp-icon-[\w-]+:\s*url\([^)]*\);?")
# A rule with neither nested block nor brace in a string: so is all that nbconvert ships.
_BLOCK = re.compile(r"([^{}]*)([{}])")
_USE = re.compile(r"var\(\s*(--[\w-]+)")
_SPACES = re.compile(r"\s+")


def prune(css: str, may_occur: re.Pattern[str]) -> str:
    """Keep the rules for elements whose classes can occur.

    Args:
        css: A stylesheet, whose strings hold no braces.
        may_occur: Matches the whole name of any class that a page may have. A rule without a
            class is always kept.

    Returns:
        The rest, without comments, icons and superfluous white space.
    """
    return "\n".join(_rules(_BLOCK.finditer(_COMMENT.sub("", css)), may_occur))


def without_unused(css: str, prefix: str) -> str:
    """Take out custom properties that no rule uses.

    Args:
        css: A stylesheet; the properties' values hold no semicolons.
        prefix: What the names of those begin with that nothing else may use.
    """
    used = set(_USE.findall(css))
    own = re.compile(rf"({re.escape(prefix)}[\w-]+)\s*:[^;{{}}]*;\s*")
    return own.sub(lambda found: found[0] if found[1] in used else "", css)


def _rules(blocks: Iterator[re.Match[str]], may_occur: re.Pattern[str]) -> Iterator[str]:
    for match in blocks:
        if match[2] == "}":  # the end of the at-rule around these
            return
        prelude = _SPACES.sub(" ", match[1]).strip()
        if prelude.startswith(("@media", "@supports")):
            inner = list(_rules(blocks, may_occur))
            if inner:
                yield "\n".join([f"{prelude} {{", *inner, "}"])
        elif prelude.startswith("@keyframes"):
            list(_rules(blocks, may_occur))  # animates JupyterLab's own controls only
        else:
            body = _SPACES.sub(" ", _ICON.sub("", next(blocks)[1])).strip()
            kept = [s for s in _selectors(prelude) if _possible(s, may_occur)]
            if kept and body:
                yield f"{', '.join(kept)} {{ {body} }}"


def _selectors(prelude: str) -> list[str]:
    # Not at the commas within `:not(a, b)`.
    return [s.strip() for s in re.split(r",(?![^(]*\))", prelude)]


def _possible(selector: str, may_occur: re.Pattern[str]) -> bool:
    # What is negated need not occur for the rule to hold; an attribute's value may have dots.
    asked = re.sub(r":not\([^)]*\)|\[[^\]]*\]", "", selector)
    return all(may_occur.fullmatch(name) for name in _CLASS.findall(asked))
