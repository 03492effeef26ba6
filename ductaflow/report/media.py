"""What the page shows of an executed notebook: its figures, and its cells for a comparison.

A page that is opened from disk can fetch nothing, but it can load scripts and images: so each
instance gets a small script of its cells, loaded when somebody compares it, and image files.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.documents.html.page import script_json
from ductaflow.documents.runlog import strip_ansi
from ductaflow.files import jsonio
from ductaflow.files.compression import kept, read
from ductaflow.model.flows import INSERTED_TAGS
from ductaflow.report.facts import InstanceFacts

FIGURES = 12  # of one instance
THUMBNAIL = 360  # pixels across
LONGEST_TEXT = 100_000  # characters of one output that are compared
_FORMATS = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}
_PICTURES = (".png", ".jpg", ".jpeg", ".svg", ".webp", ".gif")
_FILES = 200  # of one instance that are listed


@final
@attrs.frozen
class Figure:
    """One figure of an instance.

    Attributes:
        image: The file with it, relative to the page.
        thumbnail: A small one; the same where there is nothing to scale it with.
        cell: The number of the notebook's cell that drew it; 0 for a file that the flow wrote.
        label: What to call it.
    """

    image: str
    thumbnail: str
    cell: int
    label: str


@final
@attrs.frozen
class Media:
    """What lies beside the page for one instance.

    Attributes:
        stamp: Of what it was made.
        figures: Its figures.
        files: What the flow wrote into its folder: name and size in bytes.
    """

    stamp: str
    figures: tuple[Figure, ...] = ()
    files: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Media:
        """What `attrs.asdict` made, again."""
        return cls(
            data["stamp"],
            tuple(Figure(**figure) for figure in data["figures"]),
            tuple((name, size) for name, size in data["files"]),
        )


@final
@attrs.define(eq=False)
class MediaFolder:
    """The folder beside the page.

    Attributes:
        folder: Itself.
        full: Whether figures are kept in full size as well.
    """

    folder: Path
    full: bool = True
    _known: dict[str, Media] = attrs.field(factory=dict)

    @classmethod
    def open(cls, folder: Path, *, full: bool) -> MediaFolder:
        """The folder, with what an earlier page has left there."""
        found: dict[str, Media] = {}
        try:
            data = json.loads((folder / "manifest.json").read_text("utf-8"))
            found = {key: Media.from_json(value) for key, value in data["instances"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found = {}  # all of it can be made again
        return cls(folder, full, found)

    def of(self, facts: InstanceFacts, link: str) -> Media:
        """What there is for an instance, made if it is not there or out of date.

        Args:
            facts: The instance.
            link: Its folder, relative to the page.
        """
        known = self.known(facts)
        if known is None:
            known = self._made(facts, link, _stamp(facts, self.full))
            self._known[facts.id] = known
        return known

    def known(self, facts: InstanceFacts) -> Media | None:
        """What there is for an instance from an earlier page, if it is up to date."""
        known = self._known.get(facts.id)
        return known if known is not None and known.stamp == _stamp(facts, self.full) else None

    def save(self, wanted: Iterable[str]) -> None:
        """Keep in mind what there is for these instances, and remove what is for others."""
        keep = set(wanted)
        for key in set(self._known) - keep:
            del self._known[key]
            (self.folder / "instances" / f"{key}.js").unlink(missing_ok=True)
            shutil.rmtree(self.folder / "figures" / key, ignore_errors=True)
        instances = {key: attrs.asdict(media) for key, media in self._known.items()}
        text = json.dumps({"instances": instances}, ensure_ascii=False)
        jsonio.write_atomic(self.folder / "manifest.json", text)

    def _made(self, facts: InstanceFacts, link: str, stamp: str) -> Media:
        folder = self.folder / "figures" / facts.step / facts.instance
        shutil.rmtree(folder, ignore_errors=True)
        files = tuple(_files(facts))
        figures: list[Figure] = []
        cells = []
        for number, cell in enumerate(_cells(facts.paths.notebook), 1):
            shown: list[dict[str, str]] = []
            for output in cell.get("outputs", ()):
                kind, data = _image(output)
                if data is not None and len(figures) < FIGURES:
                    figure = self._figure(folder, kind, data, number, len(figures) + 1)
                    figures.append(figure)
                    shown.append({"type": "image", "src": figure.image, "thumb": figure.thumbnail})
                elif data is not None:
                    digest = hashlib.sha256(data).hexdigest()[:12]
                    shown.append({"type": "text", "text": f"[figure {digest}, not kept here]"})
                else:
                    shown.extend(_texts(output))
            cells.append({"kind": cell.get("cell_type", ""), "source": _joined(cell.get("source")),
                          "n": number, "own": _own(cell), "outputs": shown})  # fmt: skip
        for name, _ in files:
            if name.lower().endswith(_PICTURES) and len(figures) < FIGURES:
                figures.append(Figure(f"{link}/{name}", f"{link}/{name}", 0, name))
        details = {
            "cells": cells,
            "files": files,
            "traceback": facts.record.error.traceback if facts.record.error else (),
        }
        path = self.folder / "instances" / facts.step / f"{facts.instance}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        call = f"ductaflowDetails({script_json(facts.id)},{script_json(details)});\n"
        jsonio.write_atomic(path, call)
        return Media(stamp, tuple(figures), files)

    def _figure(self, folder: Path, kind: str, data: bytes, cell: int, number: int) -> Figure:
        small = _scaled(data) if kind != "svg" else None
        base = f"{self.folder.name}/{folder.relative_to(self.folder).as_posix()}"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{number}-{hashlib.sha256(data).hexdigest()[:10]}"  # another figure, another name
        image = thumbnail = f"{stem}.{kind}"
        if small is not None:
            thumbnail = f"{stem}.small.png"
            (folder / thumbnail).write_bytes(small)
        if self.full or small is None:
            (folder / image).write_bytes(data)
        else:
            image = thumbnail
        return Figure(f"{base}/{image}", f"{base}/{thumbnail}", cell, f"cell {cell}")


# --- notebooks ----------------------------------------------------------------------------------


def _cells(notebook: Path) -> list[Mapping[str, Any]]:
    """The cells of an executed notebook; none if there is none."""
    try:
        cells = json.loads(read(notebook).decode("utf-8", "surrogatepass"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []


def _own(cell: Mapping[str, Any]) -> bool:
    """Whether the cell was put in by ductaflow."""
    tags = cell.get("metadata", {}).get("tags", ())
    return any(tag in INSERTED_TAGS for tag in tags)


def _image(output: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """The figure in an output: its kind and its bytes."""
    data = output.get("data")
    for mime, kind in _FORMATS.items():
        if isinstance(data, dict) and mime in data:
            text = _joined(data[mime])
            if kind == "svg":
                return kind, text.encode("utf-8", "replace")
            with contextlib.suppress(binascii.Error, ValueError):
                return kind, base64.b64decode(text)
    return "", None


def _texts(output: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The text of an output, as people compare it."""
    kind = output.get("output_type")
    if kind == "stream":
        yield {"type": str(output.get("name", "stdout")), "text": _cut(_joined(output.get("text")))}
    elif kind == "error":
        yield {"type": "error", "text": _cut("\n".join(map(str, output.get("traceback", ()))))}
    else:
        data = output.get("data")
        data = data if isinstance(data, dict) else {}
        for mime in ("text/plain", "text/markdown", "text/latex", "text/html"):
            if mime in data:
                yield {"type": "text", "text": _cut(_joined(data[mime]))}
                return


def _joined(text: object) -> str:
    if isinstance(text, list):
        return "".join(map(str, text))
    return text if isinstance(text, str) else ""


def _cut(text: str) -> str:
    text = strip_ansi(text)
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\n… {len(text) - LONGEST_TEXT:,} characters more"


# --- files --------------------------------------------------------------------------------------


def _stamp(facts: InstanceFacts, full: bool) -> str:
    """Of what the media of an instance are made: they are made anew when it changes."""
    try:
        stat = kept(facts.paths.notebook).stat()
        notebook = f"{stat.st_mtime_ns}:{stat.st_size}"
    except OSError:
        notebook = "none"
    record = facts.record
    return f"{record.started}|{record.finished}|{record.status.value}|{notebook}|{full:d}"


def _files(facts: InstanceFacts) -> Iterator[tuple[str, int]]:
    """What the flow wrote into its folder."""
    paths = facts.paths
    own = set(paths.all())
    with contextlib.suppress(OSError):
        found = sorted(
            file for file in paths.directory.rglob("*") if file not in own and file.is_file()
        )
        for file in found[:_FILES]:
            name = file.relative_to(paths.directory).as_posix()
            if not any(part.startswith(".") for part in name.split("/")):
                yield name, file.stat().st_size


def _scaled(image: bytes) -> bytes | None:
    """A small PNG of an image; None if Pillow is not there, or cannot read it."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(BytesIO(image)) as opened:
            if opened.width <= THUMBNAIL:
                return None
            height = max(1, round(opened.height * THUMBNAIL / opened.width))
            small = opened.convert("RGB").resize((THUMBNAIL, height), Image.Resampling.LANCZOS)
            small = small.quantize(128)
            file = BytesIO()
            small.save(file, "PNG", optimize=True)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return file.getvalue()
