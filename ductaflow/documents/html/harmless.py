"""HTML that may hold what a value brought, without what could run."""

from __future__ import annotations

from typing import Final

import bleach
from bleach.css_sanitizer import CSSSanitizer

_TAGS: Final = frozenset(
    """
    a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt
    em figcaption figure font h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp
    section small span strike strong sub summary sup table tbody td tfoot th thead tr tt u ul
    var
    """.split()  # noqa: SIM905  (to be read)
)
_PROTOCOLS: Final = frozenset({"http", "https", "mailto", "file", "data"})
_EVERYWHERE: Final = frozenset(
    """
    align bgcolor border cellpadding cellspacing class color colspan dir height id lang open
    rowspan scope size start style title type valign value width
    """.split()  # noqa: SIM905  (to be read)
)


def harmless(html: str) -> str:
    """`html` with text, tables, links, pictures and styles; the tags of all else shown as text.

    No script, handler, form, frame or stylesheet is left, nor a link that runs one.

    Args:
        html: A fragment, as Markdown gives it.
    """
    cleaned: str = bleach.clean(
        html, tags=_TAGS, attributes=_may_stay, protocols=_PROTOCOLS, css_sanitizer=CSSSanitizer()
    )
    return cleaned


def _may_stay(tag: str, name: str, value: str) -> bool:
    if (tag, name) == ("a", "href"):
        return not value.strip().lower().startswith("data:")
    if tag == "img" and name in ("src", "alt"):
        return True
    return name in _EVERYWHERE
