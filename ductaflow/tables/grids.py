"""Grids: every combination of some values, as the rows of a table that nobody has to write."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final, overload

import attrs

from ductaflow.errors import TableError

KeyPath = tuple[str, ...]


@attrs.frozen
class _Axis:
    """Keys that vary together, and the values that they take."""

    keys: tuple[KeyPath, ...]
    points: tuple[tuple[Any, ...], ...]


@attrs.frozen
class _Product:
    """Every combination of some axes; the last varies fastest."""

    axes: tuple[_Axis, ...]

    def __len__(self) -> int:
        size = 1
        for axis in self.axes:
            size *= len(axis.points)
        return size

    def row(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        chosen = []
        for axis in reversed(self.axes):
            index, position = divmod(index, len(axis.points))
            chosen.append((axis, axis.points[position]))
        for axis, point in reversed(chosen):
            for path, value in zip(axis.keys, point, strict=True):
                inner = row
                for key in path[:-1]:
                    inner = inner.setdefault(key, {})
                inner[path[-1]] = value
        return row


@final
@attrs.frozen
class Grid(Sequence[Mapping[str, Any]]):
    """Rows of configs. `a + b` has the rows of both, `a * b` every pair of them.

    Rows are made when they are asked for, so that a grid of a million takes no memory.

    Attributes:
        parts: What it is made of, one after the other.
    """

    parts: tuple[_Product, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        wanted = index + len(self) if index < 0 else index
        for part in self.parts:
            if 0 <= wanted < len(part):
                return part.row(wanted)
            wanted -= len(part)
        raise IndexError(f"the grid has {len(self)} rows, and none of number {index}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (part.row(index) for part in self.parts for index in range(len(part)))

    def __add__(self, other: object) -> Grid:
        return Grid(self.parts + other.parts) if isinstance(other, Grid) else NotImplemented

    def __mul__(self, other: object) -> Grid:
        if not isinstance(other, Grid):
            return NotImplemented
        pairs = itertools.product(self.parts, other.parts)
        return Grid(tuple(_crossed(a, b) for a, b in pairs))

    @property
    def varying(self) -> tuple[KeyPath, ...]:
        """The keys that take more than one value, or are not in all parts; they make the names."""
        values: dict[KeyPath, list[Any]] = {}
        for part in self.parts:
            for axis in part.axes:
                for place, key in enumerate(axis.keys):
                    values.setdefault(key, []).extend(point[place] for point in axis.points)
        everywhere = [{k for axis in part.axes for k in axis.keys} for part in self.parts]
        return tuple(
            key
            for key, seen in values.items()
            if any(_differ(value, seen[0]) for value in seen)
            or not all(key in e for e in everywhere)
        )

    def __repr__(self) -> str:
        names = ", ".join(".".join(key) for key in self.varying)
        return f"<Grid of {len(self)} over {names or 'nothing'}>"


def grid(**values: Any) -> Grid:
    """Every combination of the values; the last key varies fastest.

    Args:
        **values: For each config key the values that it takes: any iterable but a string. A single
            value is the same in all rows; so is a list within a list. A dict makes a nested
            config, of whose keys the same holds.

    Returns:
        A grid, for `sweep`. `grid(a=[1, 2], b="x") + grid(a=[7])` has three rows, and
        `grid(a=[1, 2]) * zip_grid(b=[3, 4], c=[5, 6])` four.

    Raises:
        TableError: A key has no values.
    """
    return Grid((_Product(tuple(_axes(values, ()))),))


def zip_grid(**values: Any) -> Grid:
    """The first of all values, then the second of all, and so on.

    Args:
        **values: As for `grid`; single values are repeated.

    Raises:
        TableError: The keys have different numbers of values.
    """
    axes = list(_axes(values, ()))
    lengths = {len(axis.points) for axis in axes} - {1}
    if len(lengths) > 1:
        told = ", ".join(f"{'.'.join(a.keys[0])} has {len(a.points)}" for a in axes)
        raise TableError(f"zip_grid takes equally many values of each key, but {told}")
    count = max(lengths, default=1)
    columns = [axis.points * (count if len(axis.points) == 1 else 1) for axis in axes]
    points = tuple(tuple(p[0] for p in point) for point in zip(*columns, strict=True))
    return Grid((_Product((_Axis(tuple(axis.keys[0] for axis in axes), points),)),))


def _differ(a: Any, b: Any) -> bool:
    try:
        return bool(a != b)
    except ValueError:  # arrays
        return True


def _axes(values: Mapping[str, Any], above: KeyPath) -> Iterator[_Axis]:
    for key, value in values.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and value:
            yield from _axes(value, path)
            continue
        points = tuple((item,) for item in _values(value))
        if not points:
            raise TableError(f"the grid's key {'.'.join(path)} has no values, so there are no rows")
        yield _Axis((path,), points)


def _values(value: Any) -> Iterable[Any]:
    single = isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__")
    # An array without dimensions has __iter__, and cannot be iterated over.
    return (value,) if single or getattr(value, "ndim", 1) == 0 else value


def _crossed(a: _Product, b: _Product) -> _Product:
    both = {key for axis in a.axes for key in axis.keys}
    both &= {key for axis in b.axes for key in axis.keys}
    if both:
        told = ", ".join(".".join(key) for key in sorted(both))
        raise TableError(f"both grids have the key {told}; in a product each has its own")
    return _Product(a.axes + b.axes)
