"""The secrets of one run: put into the cell that needs them, kept out of all that comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import final

import attrs
from ductaflow_kernels.session.messages import Message

from ductaflow.model.facts import FileFact
from ductaflow.model.flows import Cell, Tag
from ductaflow.model.kinds import NoteKind
from ductaflow.model.plans import Note
from ductaflow.model.records import RunRecord
from ductaflow.plans.literal import quoted
from ductaflow.plans.plan import InstancePlan
from ductaflow.secrets.masking import SHORTEST, Masker
from ductaflow.secrets.references import MASK, expression, shown, sources, value_of


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
                NoteKind.SECRET,
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
        inputs, outputs = self._files(record.inputs), self._files(record.outputs)
        notes = self.notes_masked(record.notes)
        observed = record.observed
        if (inputs, outputs) != (record.inputs, record.outputs):
            observed = ""  # what was used cannot be asked for again
            notes += (Note(NoteKind.SECRET_PATH, _IN_A_PATH),)
        return attrs.evolve(
            record,
            error=error,
            notes=notes,
            inputs=inputs,
            outputs=outputs,
            observed=observed,
        )

    def notes_masked(self, notes: Iterable[Note]) -> tuple[Note, ...]:
        """Notes without them."""
        return tuple(attrs.evolve(n, message=self.masker.text(n.message)) for n in notes)

    def _files(self, facts: Iterable[FileFact]) -> tuple[FileFact, ...]:
        return tuple(attrs.evolve(fact, path=self.masker.text(fact.path)) for fact in facts)


_IN_A_PATH = "the name of a file that it used has a secret in it, so no later call reuses this run"
NO_SECRETS = RunSecrets()
"""Those of a run that has none."""


@final
class MaskedMessages:
    """A kernel's messages without a run's secrets.

    What may be the beginning of one in a stream is held back until it is known.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._last_of_stream: dict[str, Message] = {}

    def of(self, message: Message) -> Iterator[Message]:
        """What is to be taken in now that a message has come.

        Args:
            message: As the kernel has sent it.
        """
        if not self._masker:
            yield message
        elif message.type == "stream":
            name = str(message.content.get("name"))
            text = self._masker.stream(name, str(message.content.get("text")))
            message = attrs.evolve(message, content={**message.content, "text": text})
            self._last_of_stream[name] = message
            if text:
                yield message
        else:
            if message.channel == "iopub":  # replies overtake what is printed
                yield from self.rest(message.parent)
            buffers = [self._masker.binary(bytes(data)) for data in message.buffers]
            content = self._masker.content(message.content)
            yield attrs.evolve(message, content=content, buffers=buffers)

    def rest(self, parent: str | None = None) -> Iterator[Message]:
        """What was held back of streams, for it is the beginning of no secret.

        Args:
            parent: The request that it must belong to; None for any.
        """
        for name, last in self._last_of_stream.items():
            if parent in (None, last.parent):
                text = self._masker.rest(name)
                if text:
                    yield attrs.evolve(last, content={**last.content, "text": text})
