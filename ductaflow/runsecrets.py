"""The secrets of one run: put into the cell that needs them, kept out of all that comes back."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ductaflow.config import quoted
from ductaflow.masking import SHORTEST, Masker
from ductaflow.model import Cell, InstancePlan, Note, RunRecord, Tag
from ductaflow.secretvalues import MASK, expression, shown, sources, value_of


@attrs.frozen
class RunSecrets:
    """What a run must know of its secrets.

    Attributes:
        values: Python text of each value, by the expression in whose place it is sent.
        masker: Masks them.
        notes: Of those that are not masked.
    """

    values: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    masker: Masker = attrs.field(factory=lambda: Masker((), MASK), repr=False)
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, plan: InstancePlan) -> RunSecrets:
        """The secrets of a plan's config.

        Raises:
            ConfigError: A value cannot be had.
        """
        found = {s: value_of(s) for s in sources([plan.config or {}, plan.given or {}])}
        notes = tuple(
            Note(
                "secret",
                f"the secret {shown(source)} has fewer than {SHORTEST} characters, and is not "
                "masked in outputs",
            )
            for source, value in found.items()
            if len(value) < SHORTEST
        )
        values = {expression(source): quoted(value) for source, value in found.items()}
        return cls(values, Masker(found.values(), MASK), notes)

    def in_cell(self, cell: Cell) -> bool:
        """Whether a cell is the injected one, and needs them."""
        return bool(self.values) and Tag.INJECTED in cell.tags

    def revealed(self, cell: Cell) -> str:
        """A cell's source as the kernel gets it: the notebook does not."""
        source = cell.source
        if self.in_cell(cell):
            for shown_as, value in self.values.items():
                source = source.replace(shown_as, value)
        return source

    def masked(self, record: RunRecord) -> RunRecord:
        """A record without them."""
        if not self.masker:
            return record
        text, error = self.masker.text, record.error
        if error is not None:
            told = tuple(map(text, error.traceback))
            error = attrs.evolve(error, message=text(error.message), traceback=told)
        return attrs.evolve(
            record,
            error=error,
            notes=tuple(attrs.evolve(n, message=text(n.message)) for n in record.notes),
            inputs=tuple(attrs.evolve(f, path=text(f.path)) for f in record.inputs),
            outputs=tuple(attrs.evolve(f, path=text(f.path)) for f in record.outputs),
        )


NO_SECRETS = RunSecrets()
"""Those of a run that has none."""
