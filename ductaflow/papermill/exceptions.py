"""What `execute_notebook` raises, by papermill's names and with its attributes."""

from __future__ import annotations

from collections.abc import Sequence

from ductaflow.documents.runlog import strip_ansi
from ductaflow.errors import DuctaflowError


class PapermillException(DuctaflowError):
    """Base of what goes wrong with a notebook or a call."""


class PapermillMissingParameterException(PapermillException):
    """A path has a field for which no parameter is given."""


class PapermillOptionalDependencyException(PapermillException):
    """A package that a URL needs is not installed."""


class PapermillExecutionError(PapermillException):
    """A cell raised.

    Attributes:
        cell_index: The cell's position in the notebook, from 0, without the cells that tell of the
            failure.
        exec_count: Its prompt number.
        source: Its source.
        ename: The exception's type.
        evalue: Its message.
        traceback: The traceback's lines, maybe with colours.
    """

    def __init__(
        self,
        cell_index: int,
        exec_count: int | None,
        source: str,
        ename: str,
        evalue: str,
        traceback: Sequence[str],
    ) -> None:
        super().__init__(cell_index, exec_count, source, ename, evalue, traceback)
        self.cell_index = cell_index
        self.exec_count = exec_count
        self.source = source
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback

    def __str__(self) -> str:
        told = strip_ansi("\n".join(self.traceback)) or f"{self.ename}: {self.evalue}"
        return f'\n{"-" * 75}\nException encountered at "In [{self.exec_count}]":\n{told}\n'
