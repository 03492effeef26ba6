"""In which order runs have their turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ductaflow.sweeps.turns import Turns, in_turn

LABELS = st.integers(0, 12).map("run{:02}".format)
GRAPHS = st.dictionaries(LABELS, st.lists(LABELS, max_size=4).map(tuple))


def whole(graph: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """A graph that has an entry for all that it names."""
    named = {p for parents in graph.values() for p in parents} | set(graph)
    return {label: graph.get(label, ()) for label in named}


def ancestors(label: str, graph: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[label])
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += graph[parent]
    return found


@given(GRAPHS)
def test_each_comes_after_those_above_it_unless_they_are_in_a_circle(
    graph: dict[str, tuple[str, ...]],
) -> None:
    parents = whole(graph)
    order = in_turn(parents, parents)
    assert sorted(order) == sorted(parents)
    place = {label: number for number, label in enumerate(order)}
    in_circle = {label for label in parents if label in ancestors(label, parents)}
    for label, above in parents.items():
        if not (ancestors(label, parents) | {label}) & in_circle:
            assert all(place[parent] < place[label] for parent in above)


@given(GRAPHS)
def test_nothing_begins_before_what_it_reads_from_has_ended(
    graph: dict[str, tuple[str, ...]],
) -> None:
    parents = whole(graph)
    turns = Turns(sorted(parents), parents)
    running: list[str] = []
    ended: set[str] = set()
    while turns or running:
        label = turns.begin()
        if label is not None:
            assert set(parents[label]) - {label} <= ended
            running.append(label)
        elif running:
            ended.add(running[0])
            turns.end(running.pop(0))
        else:
            anyway = turns.begin_anyway()
            assert anyway is not None
            assert set(parents[anyway]) - {anyway} - ended
            running.append(anyway)
    assert ended == set(parents)


def test_runs_of_one_level_come_by_name() -> None:
    parents: dict[str, tuple[str, ...]] = {
        "c/1": ("a/2",), "a/2": (), "b/1": ("a/1", "a/2"), "a/1": (), "d/1": ("c/1", "gone/1"),
    }  # fmt: skip
    assert in_turn(parents, parents) == ["a/1", "a/2", "b/1", "c/1", "d/1"]


def test_none_begins_once_they_are_called_off() -> None:
    turns = Turns(["a", "b"], {"a": (), "b": ("a",)})
    assert turns.begin() == "a"
    turns.clear()
    turns.end("a")
    assert turns.begin() is turns.begin_anyway() is None
    assert not turns
