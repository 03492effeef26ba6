"""In which order runs have their turn: each once those that it reads from have ended."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from ductaflow.history.lineage import Label

Parents = Mapping[Label, Sequence[Label]]


class Turns:
    """Runs that have not begun, and which of them may.

    Args:
        labels: The runs; what others of them do not hold back begins in this order.
        parents: Those that each reads from. Those that are not among the runs hold nothing back.
    """

    def __init__(self, labels: Iterable[Label], parents: Parents) -> None:
        self._left = dict.fromkeys(labels)
        self._above: dict[Label, int] = {}
        self._below: dict[Label, list[Label]] = defaultdict(list)
        for label in self._left:
            above = {p for p in parents[label] if p in self._left and p != label}
            self._above[label] = len(above)
            for parent in above:
                self._below[parent].append(label)
        self._ready = deque(label for label in self._left if not self._above[label])

    def __bool__(self) -> bool:
        return bool(self._left)

    def begin(self) -> Label | None:
        """One whose turn it is, or None; it begins."""
        if not self._ready:
            return None
        label = self._ready.popleft()
        del self._left[label]
        return label

    def begin_anyway(self) -> Label | None:
        """The first one, or None: where none has its turn, and none runs, they wait in a circle."""
        label = next(iter(self._left), None)
        if label is not None:
            del self._left[label]
        return label

    def end(self, label: Label) -> None:
        """One has ended."""
        for below in self._below[label]:
            self._above[below] -= 1
            if not self._above[below] and below in self._left:
                self._ready.append(below)

    def clear(self) -> None:
        """None is to begin any more."""
        self._left.clear()
        self._ready.clear()


def in_turn(labels: Iterable[Label], parents: Parents) -> list[Label]:
    """Runs, each after those of them that it reads from; by name where that leaves a choice."""
    turns = Turns(sorted(labels), parents)
    order: list[Label] = []
    while turns:
        level: list[Label] = []
        while (label := turns.begin()) is not None:
            level.append(label)
        if not level and (label := turns.begin_anyway()) is not None:
            level.append(label)
        for label in sorted(level):
            order.append(label)
            turns.end(label)
    return order
