"""What came of running an instance again in a scratch folder: facts for people and programs."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, final, overload

import attrs

from ductaflow.model.facts import Reason

_LISTED = 20  # differences of one instance in a text


class VerificationOutcome(Enum):
    """What a verification found; owns its symbol, label and colour."""

    symbol: str
    label: str
    colour: str

    def __new__(cls, value: str, symbol: str, label: str, colour: str) -> VerificationOutcome:
        """Each member is its value; the rest is how it is shown."""
        member = object.__new__(cls)
        member._value_ = value
        member.symbol, member.label, member.colour = symbol, label, colour
        return member

    REPRODUCES = "reproduces", "✓", "reproduces", "#1a7f37"
    DIFFERS = "differs", "≠", "differs", "#cf222e"
    STALE = "stale", "○", "not verified: it would run anyway", "#6e7781"
    REFUSED = "refused", "⊘", "not verified", "#57606a"


@attrs.frozen
class Difference:
    """One thing that came out otherwise.

    Attributes:
        kind: `cell`, `file`, `metric` or `run`.
        where: What it is, as `cell 4`, `out.csv`, `metric loss`.
        message: How it differs, in a few words.
        before: An excerpt of what the run that would be reused has.
        after: An excerpt of what came out now.
    """

    kind: str
    where: str
    message: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@attrs.frozen
class Verification:
    """One instance that was run again and compared, or not, and why not.

    Attributes:
        step: Its step.
        instance: Its name.
        outcome: What was found.
        differences: What came out otherwise.
        causes: Why it may have: what the new run used that the record does not list, or lists
            otherwise.
        reasons: Why it was not verified: it is stale, or cannot be run again safely.
        duration: Seconds that the new run took, or None.
        left_out: What was not compared, and why.
    """

    step: str
    instance: str
    outcome: VerificationOutcome
    differences: tuple[Difference, ...] = ()
    causes: tuple[Reason, ...] = ()
    reasons: tuple[Reason, ...] = ()
    duration: float | None = None
    left_out: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`step/instance`."""
        return f"{self.step}/{self.instance}"

    @property
    def ok(self) -> bool:
        """Whether it reproduces."""
        return self.outcome is VerificationOutcome.REPRODUCES

    def __bool__(self) -> bool:
        return self.ok

    def headline(self) -> str:
        """What was found, in one line."""
        if self.reasons:
            return f"{self.label} {self.outcome.label}: {'; '.join(map(str, self.reasons))}"
        told = self.outcome.label
        if self.outcome is VerificationOutcome.DIFFERS:
            told = f"differs in {_joined([d.where for d in self.differences])}"
        return "; ".join([f"{self.label} {told}", *self.left_out])

    def __str__(self) -> str:
        lines = [f"{self.outcome.symbol} {self.headline()}"]
        for difference in self.differences[:_LISTED]:
            lines.append(f"    {difference}")
            if difference.before or difference.after:
                lines += [f"      before: {difference.before}", f"      after:  {difference.after}"]
        if len(self.differences) > _LISTED:
            lines.append(f"    and {len(self.differences) - _LISTED} differences more")
        if self.causes:
            lines += ["    likely cause:", *(f"      {cause}" for cause in self.causes)]
        elif self.outcome is VerificationOutcome.DIFFERS:
            lines.append(f"    {_NO_CAUSE}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Verification {self.outcome.symbol} {self.headline()}>"

    def _repr_html_(self) -> str:
        return f"<table><tbody>{_html_row(self)}</tbody></table>"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        facts = attrs.asdict(self)
        return {**facts, "outcome": self.outcome.value}


_NO_CAUSE = (
    "no input that changed was found: it may depend on the time, on random numbers, or on what is "
    "not observed"
)


def _joined(names: Sequence[str]) -> str:
    """`cell 4 and out.csv`."""
    shown = list(dict.fromkeys(names))
    if len(shown) > _SHOWN:
        return f"{', '.join(shown[:_SHOWN])} and {len(shown) - _SHOWN} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


_SHOWN = 5


@final
@attrs.frozen(repr=False)
class Verifications(Sequence[Verification]):
    """What came of verifying several instances.

    Attributes:
        items: One for each, those not verified among them.
    """

    items: tuple[Verification, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Verification: ...
    @overload
    def __getitem__(self, index: slice) -> Verifications: ...
    def __getitem__(self, index: int | slice) -> Verification | Verifications:
        found = self.items[index]
        return found if isinstance(found, Verification) else Verifications(found)

    def __iter__(self) -> Iterator[Verification]:
        return iter(self.items)

    @property
    def ok(self) -> Verifications:
        """Those that reproduce."""
        return Verifications(tuple(item for item in self if item.ok))

    @property
    def differing(self) -> Verifications:
        """Those that do not."""
        return Verifications(tuple(i for i in self if i.outcome is VerificationOutcome.DIFFERS))

    def headline(self) -> str:
        """How many of them came out how."""
        counts = Counter(item.outcome for item in self)
        told = [f"{o.symbol} {counts[o]} {_COUNTED[o]}" for o in VerificationOutcome if counts[o]]
        return f"{len(self)} verified: {', '.join(told)}" if told else "nothing to verify"

    def __str__(self) -> str:
        told = [item for item in self if not item.ok or item.left_out]
        return "\n".join([self.headline(), *map(str, told)])

    def __repr__(self) -> str:
        return f"<Verifications: {self.headline()}>"

    def _repr_html_(self) -> str:
        rows = "".join(map(_html_row, sorted(self.items, key=lambda item: item.ok)))
        return f"<p>{html.escape(self.headline())}</p><table><tbody>{rows}</tbody></table>"


_COUNTED = {
    VerificationOutcome.REPRODUCES: "reproduce",
    VerificationOutcome.DIFFERS: "differ",
    VerificationOutcome.STALE: "stale, not run",
    VerificationOutcome.REFUSED: "not run",
}


def _html_row(item: Verification) -> str:
    first, *more = str(item).split("\n")
    rest = f"<pre>{html.escape(chr(10).join(more))}</pre>" if more else ""
    return f'<tr><td style="color:{item.outcome.colour}">{html.escape(first)}{rest}</td></tr>'
