"""Control tables of every kind, as rows: one mapping for each instance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, final

import attrs

from ductaflow.errors import TableError
from ductaflow.tables.grids import Grid

Row: TypeAlias = Mapping[str, Any]

_READERS = {  # pandas' function, and the types that hold what is in such a file exactly
    ".csv": ("read_csv", "numpy_nullable"),
    ".parquet": ("read_parquet", "pyarrow"),
    ".xlsx": ("read_excel", "numpy_nullable"),
}


class Kind(Enum):
    """What a control table came as."""

    MAPPINGS = "mappings"
    STREAM = "stream"
    PANDAS = "pandas"
    POLARS = "polars"


@final
@attrs.frozen(eq=False)  # data frames have a comparison of their own
class Table:
    """A control table, whatever it came as.

    Attributes:
        source: The table as it was given, or read from its file.
        kind: What it is.
        length: How many rows there are; None for a stream, which is consumed once, row by row.
        columns: Their columns; None where every row has its own keys.
        named_by: Keys whose values make an instance's name, where the table says so itself: a
            grid's varying keys, a data frame's named index.
        sparse: Whether an empty cell says nothing, so that the flow's default counts: in files.
    """

    source: Any = attrs.field(repr=False)
    kind: Kind
    length: int | None
    columns: tuple[str, ...] | None = None
    named_by: tuple[tuple[str, ...], ...] = ()
    sparse: bool = False

    def rows(self) -> Iterator[Row]:
        """The rows, in their order; of a stream those that are left.

        Raises:
            TableError: A row is no mapping.
        """
        if self.kind is Kind.POLARS:
            return iter(self.source.iter_rows(named=True))
        if self.kind is Kind.PANDAS:
            assert self.columns is not None
            columns = self.columns
            tuples = self.source.itertuples(index=False, name=None)
            return (dict(zip(columns, values, strict=True)) for values in tuples)
        return (_checked(number, row) for number, row in enumerate(self.source))


def read_table(source: Any, base: Path) -> Table:
    """A control table from what a caller gives.

    Args:
        source: A pandas or polars data frame, a list of mappings, a grid, an iterator of mappings,
            or the path of a `.csv`, `.parquet` or `.xlsx` file. In files, an empty cell is None.
        base: The folder that a relative path starts from.

    Raises:
        TableError: It is none of these, cannot be read, or has no rows.
    """
    where = ""
    if isinstance(source, (str, os.PathLike)):
        file = base / Path(source).expanduser()
        where, source = f" {file}", _read_file(file)
    table = attrs.evolve(_table(source), sparse=bool(where))
    if table.length == 0:
        raise TableError(f"the control table{where} has no rows, so there is nothing to run")
    return table


def _table(source: Any) -> Table:
    packages = {kind.__module__.partition(".")[0] for kind in type(source).__mro__}
    if isinstance(source, Grid):
        return Table(source, Kind.MAPPINGS, len(source), None, source.varying)
    if "pandas" in packages and hasattr(source, "itertuples"):
        return _pandas_table(source)
    if "polars" in packages and hasattr(source, "collect") and not hasattr(source, "iter_rows"):
        source = source.collect()
    if "polars" in packages and hasattr(source, "iter_rows"):
        return Table(source, Kind.POLARS, source.height, tuple(source.columns))
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        return Table(source, Kind.MAPPINGS, len(source))
    if isinstance(source, Iterable) and not isinstance(source, (Mapping, str, bytes)):
        return Table(source, Kind.STREAM, None)
    raise TableError(
        f"a control table cannot be made of {type(source).__name__}; give a pandas or polars data "
        "frame, a list of dicts, grid(...), or the path of a .csv, .parquet or .xlsx file"
    )


def _checked(number: int, row: Any) -> Row:
    if not isinstance(row, Mapping):
        raise TableError(
            f"row {number} of the control table is of type {type(row).__name__}; each row is a dict"
        )
    return row


def _pandas_table(frame: Any) -> Table:
    named_by: tuple[tuple[str, ...], ...] = ()
    if any(name is not None for name in frame.index.names):  # set_index("scenario")
        named_by = tuple((str(name),) for name in frame.index.names if name is not None)
        frame = frame.reset_index()
    columns = tuple(str(column) for column in frame.columns)
    if len(set(columns)) < len(columns):
        twice = sorted({c for c in columns if columns.count(c) > 1})
        raise TableError(f"the control table has more than one column {', '.join(twice)}")
    return Table(frame, Kind.PANDAS, len(frame), columns, named_by)


def _read_file(file: Path) -> Any:
    reader, types = _READERS.get(file.suffix.lower(), (None, None))
    if reader is None:
        raise TableError(
            f"{file} is no control table that can be read: give a {', '.join(_READERS)} file, or "
            "read it yourself and give the data frame"
        )
    if not file.is_file():
        raise TableError(f"there is no control table {file}")
    try:
        import pandas

        # Whole numbers stay whole beside empty cells, and 1.0 stays a float.
        return getattr(pandas, reader)(file, dtype_backend=types)
    except ImportError as e:
        raise TableError(
            f"reading {file} takes {e.name or 'a package'} that is not installed: "
            "pip install 'ductaflow[tables]'"
        ) from e
    except Exception as e:  # whatever pandas and its engines raise
        raise TableError(f"{file} cannot be read as a table: {e}") from e


def is_empty(value: Any) -> bool:
    """Whether a cell of a table is empty: None, pandas' NA and NaT; not a number is a value."""
    return value is None or type(value).__name__ in ("NAType", "NaTType")
