"""Kinds of failures, reasons and notes: words that records keep."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from ductaflow.files import jsonio
from ductaflow.model.facts import Reason, Role
from ductaflow.model.kinds import RETRIABLE, FailureKind, NoteKind, ReasonKind
from ductaflow.model.plans import Note
from ductaflow.model.records import ErrorInfo

KINDS = [*FailureKind, *ReasonKind, *NoteKind]


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_a_kind_is_its_word(kind: FailureKind | ReasonKind | NoteKind) -> None:
    word = kind.value
    assert kind == word
    assert {kind: 1}[word] == 1  # type: ignore[index]
    assert f"{kind:>3}{kind}" == f"{word:>3}{word}"
    assert (str(kind), repr(kind)) == (word, repr(word))
    assert json.loads(jsonio.dumps({"kind": kind})) == {"kind": word}
    assert type(kind)(word) is kind is pickle.loads(pickle.dumps(kind)) is copy.deepcopy(kind)


@pytest.mark.parametrize("of", [FailureKind, ReasonKind, NoteKind])
def test_a_later_version_s_kind_is_kept(of: type[FailureKind | ReasonKind | NoteKind]) -> None:
    later = of("of-later")
    assert later == "of-later" == pickle.loads(pickle.dumps(later)).value
    assert later not in list(of)
    assert not getattr(later, "acceptable", False)
    assert not getattr(later, "hides", "")
    with pytest.raises(ValueError, match="3"):
        of(3)  # type: ignore[arg-type]


def test_what_has_a_kind_takes_its_word() -> None:
    assert Reason("code", "it changed").kind is ReasonKind.CODE
    assert Note("early", "it ended").kind is NoteKind.EARLY
    assert ErrorInfo("cell", "E", "no").kind is FailureKind.CELL


def test_every_role_of_a_file_is_a_kind_of_reason() -> None:
    assert {role.value for role in Role} <= {kind.value for kind in ReasonKind}
    assert set(RETRIABLE) <= set(FailureKind)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ErrorInfo("cell", "E", "no", 3, 41), "E: no in cell 3 (f.py:41)"),
        (ErrorInfo("cell", "E", "no", 3), "E: no in cell 3 of f.py"),
        (ErrorInfo("died", "D", "SIGKILL", 3, 41), "D: SIGKILL (f.py:41)"),
        (ErrorInfo("start", "S", "no kernel"), "S: no kernel"),
        (ErrorInfo("cell", "E", "no\nmore", 3, 41), "E: no in cell 3 (f.py:41)\nmore"),
    ],
)  # fmt: skip
def test_an_error_s_sentence(error: ErrorInfo, sentence: str) -> None:
    assert error.sentence("f.py") == sentence
