"""`index.html`: the data as JSON that no value can end, and the bundle that shows it."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from ductaflow._version import __version__
from ductaflow.documents.html.page import STATIC, script_json, style_text
from ductaflow.documents.html.text import encodable
from ductaflow.files.compression import SUFFIX
from ductaflow.project.artifacts import ARTIFACTS, compressible
from ductaflow.report.facts import InstanceFacts, Light
from ductaflow.report.media import Media

# Nothing is loaded but what lies beside the page, and no script runs but the bundle and those.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' file: 'sha256-{hash}'; style-src 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; frame-src 'self' file:; base-uri 'none'; form-action 'none'"
)
_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="ductaflow {version}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{css}{brand}</style>
</head>
<body>
<noscript>This page needs JavaScript; bulk_summary.json beside it holds the same.</noscript>
<div id="app"></div>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def row(facts: InstanceFacts, media: Media | None, attempt: Mapping[str, Any]) -> dict[str, Any]:
    """One instance as the page has it; the short keys are `Packed` in `app/src/data.ts`.

    Args:
        facts: The instance.
        media: What lies beside the page for it.
        attempt: What is known while it runs: `cell`, `cells`, `line`.
    """
    record = facts.record
    found: dict[str, Any] = {
        "s": facts.step,
        "i": facts.instance,
        "l": facts.light.value,
        "t": record.status.value,
        "f": record.flow,
        "c": facts.values,
        "m": facts.metrics,
        "b": _seconds(record.started),
        "d": record.duration,
        "p": record.peak_memory,
        "w": facts.warnings,
        "r": list(facts.stale),
        "e": _error(facts),
        "n": list(facts.notes),
        "g": [_figure(facts, f.image, f.thumbnail, f.label) for f in media.figures]
        if media is not None
        else [],
        "a": dict(attempt),
        "h": _elsewhere(facts),
    }
    return {key: value for key, value in found.items() if value not in (None, [], {}, "", 0)}


def packed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Many rows, with the names of their values said once."""
    names = {
        key: list(dict.fromkeys(name for row in rows for name in row.get(key, ()))) for key in "cm"
    }
    return {
        "names": names,
        "rows": [
            {
                **row,
                **{key: [row[key].get(n) for n in names[key]] for key in "cm" if key in row},
            }
            for row in rows
        ],
    }


def index_page(data: Mapping[str, Any], title: str, brand_css: str = "") -> str:
    """The whole page.

    Args:
        data: What `app/src/data.ts` calls `PageData`.
        title: The page's title, as plain text.
        brand_css: Styles of the user's own.
    """
    script, css, digest = _bundle()
    return _PAGE.format(
        policy=_POLICY.format(hash=digest),
        version=__version__,
        title=html.escape(encodable(title), quote=False),
        css=css,
        brand=style_text(brand_css),
        data=script_json(data),
        script=script,
    )


def lights() -> list[dict[str, str]]:
    """The lights for the page's legend, in the order of its filter."""
    return [{"value": light.value, "symbol": light.symbol, "label": light.label} for light in Light]


def links(copies: Mapping[str, str]) -> list[dict[str, Any]]:
    """The links to what each run leaves, as `Link` in `app/src/data.ts`.

    Args:
        copies: Where copies beside the page lie, by kind, with `{step}` and `{instance}`; links
            lead to these.
    """
    return [
        {
            "kind": kind,
            "text": artifact.text,
            "path": copies.get(kind, f"{{folder}}/{artifact.name('{flow}')}"),
            "opened": artifact.opened,
        }
        for kind, artifact in ARTIFACTS.items()
    ]


@lru_cache(maxsize=1)
def _bundle() -> tuple[str, str, str]:
    """The bundle: its script, its styles, and the hash by which the page's policy knows it."""
    script = (STATIC / "index.js").read_text("utf-8").strip()
    css = (STATIC / "index.css").read_text("utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return script, css, digest


def _elsewhere(facts: InstanceFacts) -> dict[str, str | None]:
    """The names of files that are not as the page's links say, by kind.

    An empty one is of a file that was deleted, None of one that was not to be written at all.
    """
    paths, record = facts.paths, facts.record
    packed = {kind: paths.kept(a).name for kind, a in compressible().items()}
    return {
        **{
            kind: None
            for kind, a in ARTIFACTS.items()
            if not a.was_wanted(record.options) and not paths.path(a).is_file()
        },
        **dict.fromkeys(record.thinned, ""),
        **{kind: name for kind, name in packed.items() if name.endswith(SUFFIX)},
    }


def _seconds(time: str | None) -> float | None:
    """An ISO time as seconds since 1970."""
    try:
        return round(datetime.fromisoformat(time).timestamp(), 3) if time else None
    except ValueError:
        return None


def _error(facts: InstanceFacts) -> str:
    error = facts.record.error
    return f"{error.type}: {error.message}"[:300] if error is not None else ""


def _figure(facts: InstanceFacts, image: str, thumbnail: str, label: str) -> list[str]:
    """A figure, with the path that all of an instance share cut to `~`."""
    own = f"/figures/{facts.step}/{facts.instance}/"
    short = [path.split(own)[-1] if own in path else f"/{path}" for path in (image, thumbnail)]
    return [*short, label]
