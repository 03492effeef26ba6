"""What a flow is once it has been read: cells, and the flow that has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

NbCell = dict[str, Any]
"""A notebook cell as nbformat 4.5 writes it, `source` and text as single strings."""


class Tag:
    """Cell tags that mean something to ductaflow."""

    PARAMETERS = "parameters"
    INJECTED = "injected-parameters"
    FLATTEN = "ductaflow-flatten"
    CONFIG_TABLE = "ductaflow-config"
    BANNER = "ductaflow-banner"
    RAISES = "raises-exception"
    SKIP = "skip-execution"


INSERTED_TAGS = frozenset({Tag.INJECTED, Tag.FLATTEN, Tag.CONFIG_TABLE, Tag.BANNER})
"""Cells with one of these were put in and are replaced on a re-run with a config."""


@attrs.frozen
class Cell:
    """One cell of a flow, or one that ductaflow inserted.

    Attributes:
        kind: `code`, `markdown` or `raw`.
        source: The text as the notebook shows it (commented magics are active here).
        number: 1-based position in the flow file; 0 for an inserted cell.
        line: 1-based line of the flow file where `source` begins; None where lines mean
            nothing (`.ipynb`, inserted cells).
        id: The cell's id in the notebook, stable for one flow version.
        metadata: The cell's metadata, tags included.
        attachments: A markdown cell's attachments, as in nbformat.
    """

    kind: str
    source: str
    number: int = 0
    line: int | None = None
    id: str = ""
    metadata: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    attachments: Mapping[str, Any] | None = attrs.field(default=None, hash=False)

    @property
    def tags(self) -> tuple[str, ...]:
        """The cell's tags."""
        return tuple(self.metadata.get("tags", ()))

    @property
    def runs(self) -> bool:
        """Whether the kernel gets this cell."""
        return self.kind == "code" and Tag.SKIP not in self.tags and bool(self.source.strip())


@attrs.frozen
class Uncommented:
    """A comment of a flow file that jupytext takes for a command.

    Attributes:
        cell: The cell's number.
        line: The file's line.
        written: The comment as it stands there.
        taken: What it is in the cell.
    """

    cell: int
    line: int
    written: str
    taken: str


@attrs.frozen
class Flow:
    """One version of a flow file, parsed.

    Attributes:
        path: The file, absolute.
        name: Its stem: the name of its notebook, HTML and log.
        cells: Its cells, without what an earlier execution had inserted.
        parameters: Index into `cells` of the parameters cell; None if there is none.
        metadata: The notebook's metadata (the YAML header, or the `.ipynb`'s own).
        sha256: Hash of the file's bytes.
        written: Its cells with those that an earlier execution had inserted; see `flow.as_written`.
        uncommented: Its comments that are commands in its cells.
    """

    path: Path
    name: str
    cells: tuple[Cell, ...]
    parameters: int | None
    metadata: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    sha256: str = ""
    written: tuple[Cell, ...] = attrs.field(default=(), repr=False)
    uncommented: tuple[Uncommented, ...] = attrs.field(default=(), repr=False)
