"""What ipykernel and IPython do twice, or find out anew, for each cell, done once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from ipykernel import ipkernel
from IPython.core import interactiveshell


def remember_what_does_not_change(shell: Any) -> None:
    """Spare what ipykernel and IPython would find out anew for every cell."""
    if hasattr(ipkernel, "_accepts_parameters"):
        ipkernel._accepts_parameters = _remembered(ipkernel._accepts_parameters)
        ipkernel._accepts_parameters(shell.run_cell_async, ["cell_id", "cell_meta"])
    if hasattr(interactiveshell, "_should_be_async"):
        interactiveshell._should_be_async = _if_it_may_be(interactiveshell._should_be_async)


def _remembered(accepts: Callable[..., Any]) -> Callable[..., Any]:
    """The parameters that a function accepts do not change, and looking at them takes a while."""
    known: dict[Any, Any] = {}

    @functools.wraps(accepts)
    def accepts_parameters(function: Any, names: list[str]) -> Any:
        key = getattr(function, "__func__", function), tuple(names)
        if key not in known:
            known[key] = accepts(function, names)
        return known[key]

    return accepts_parameters


def _if_it_may_be(should_be_async: Callable[[str], bool]) -> Callable[[str], bool]:
    """IPython compiles each cell twice to find out whether it waits for something at its top."""

    @functools.wraps(should_be_async)
    def should(cell: str) -> bool:
        return ("await" in cell or "async" in cell) and should_be_async(cell)

    return should


@contextlib.contextmanager
def transformed_once(shell: Any) -> Iterator[None]:
    """Let a cell's source be transformed to Python once, not by ipykernel and by IPython again."""
    transform = shell.transform_cell
    replaced = "transform_cell" in vars(shell)  # by the flow
    found: dict[str, Any] = {}

    def transform_cell(source: str) -> Any:
        if source in found:  # the second and last time, before the cell itself runs
            restore()
            return found.pop(source)
        found[source] = transform(source)
        return found[source]

    def restore() -> None:
        if vars(shell).get("transform_cell") is not transform_cell:
            return
        if replaced:
            shell.transform_cell = transform
        else:
            del shell.transform_cell

    shell.transform_cell = transform_cell
    try:
        yield
    finally:
        restore()
