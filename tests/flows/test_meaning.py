"""What counts as a change of a flow's code: whatever its cells would do or show otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.displayhook import DisplayHook

from ductaflow.flows.meaning import _is_silenced
from ductaflow.flows.reading import read_flow
from ductaflow.plans.fingerprint import fingerprints

HEAD = '# %% tags=["parameters"]\nconfig = {}\n\n'


def code(folder: Path, *cells: str) -> str:
    """The fingerprint of the code of a flow with these cells."""
    path = folder / "flow.py"
    path.write_text(HEAD + "\n".join(c if c.startswith("# %%") else f"# %%\n{c}\n" for c in cells))
    return fingerprints(read_flow(path), {})["code"]


RAISES = '# %% tags=["raises-exception"]\n'

OTHER: dict[str, tuple[list[str], list[str]]] = {
    "a semicolon after the last expression": (["1+1"], ["1+1;"]),
    "a semicolon before a comment": (["1+1  # two"], ["1+1;  # two"]),
    "a semicolon after a call of a magic": (["%time 1+1"], ["%time 1+1;"]),
    "a cell split in two": (["a = 1\na"], ["a = 1", "a"]),
    "two cells that are swapped": (["1", "2"], ["2", "1"]),
    "an expression that moves to the cell before": (["1", "2\n3"], ["1\n2", "3"]),
    "an assignment": (["x = 1\n1"], ["x = 1\ny = 1"]),
    "a tag that lets a cell raise": (["1/0"], [RAISES + "1/0"]),
    "the text of a cell that may raise": ([RAISES + "1/0"], [RAISES + "1/0  # so"]),
    "a comment in a shell command": (["!ls  # all"], ["!ls  # none"]),
    "a comment in a cell magic": (["%%bash\nls  # all"], ["%%bash\nls  # none"]),
    "the text of what does not compile": (["x = = 1"], ["x =  = 1"]),
    "a skipped cell": (["1"], ['# %% tags=["skip-execution"]\n1']),
    "any semicolon where all is shown": (
        ["get_ipython().ast_node_interactivity = 'all'", "1\nx = 2"],
        ["get_ipython().ast_node_interactivity = 'all'", "1\nx = 2;"],
    ),
    "any semicolon where %config says so": (
        ["%config InteractiveShell.ast_node_interactivity = 'last_expr_or_assign'", "x = 2"],
        ["%config InteractiveShell.ast_node_interactivity = 'last_expr_or_assign'", "x = 2;"],
    ),
    "a comment where cells read their own text": (
        ["x = 1", "print(In[1])"],
        ["x = 1  # one", "print(In[1])"],
    ),
    "a comment where a magic reads them": (["x = 1", "%history"], ["x = 1  # one", "%history"]),
    "a cell of comments where cells read their numbers": (["1", "_3"], ["1", "# nothing", "_3"]),
    "a blank line where lines are told": (
        ["import sys", "sys._getframe().f_lineno"],
        ["import sys", "\nsys._getframe().f_lineno"],
    ),
}

SAME: dict[str, tuple[list[str], list[str]]] = {
    "a comment": (["x = 1"], ["x = 1  # one"]),
    "a comment after a semicolon": (["1;"], ["1;  # nothing is shown; so it is"]),
    "a semicolon in a text or a comment": (["';'"], ["';'  # ;"]),
    "a semicolon between two statements": (["x = 1\n1"], ["x = 1; 1"]),
    "a semicolon after an assignment": (["x = 1"], ["x = 1;"]),
    "layout": (["x = f(1, 2)"], ["\n\nx = f(\n    1,\n    2)\n\n"]),
    "another spelling": (["'a' + 'b'"], ['("a") + "b"']),
    "a cell of comments": (["1", "2"], ["1", "# between", "2"]),
    "an empty cell": (["1", "2"], ["1", "# %%\n", "2"]),
    "markdown": (["1", "2"], ["1", "# %% [markdown]\n# # A heading\n", "2"]),
    "a tag that hides": (["1"], ['# %% tags=["hide-input"]\n1']),
    "a comment where _i is the flow's own": (["for _i in [1]: _i"], ["for _i in [1]: _i  # so"]),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_counts(tmp_path: Path, change: str) -> None:
    before, after = OTHER[change]
    assert code(tmp_path, *before) != code(tmp_path, *after)


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_count(tmp_path: Path, change: str) -> None:
    before, after = SAME[change]
    assert code(tmp_path, *before) == code(tmp_path, *after)


def test_where_the_config_is_injected_counts(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    first, second = '# %% tags=["parameters"]\nx = 1\n\n', "# %%\nx = 1\n\n"
    found = set()
    for text in (first + second, second + first):
        path.write_text(text)
        found.add(fingerprints(read_flow(path), {})["code"])
    assert len(found) == 2


def test_the_kernel_that_a_header_names_counts_where_it_chooses(tmp_path: Path) -> None:
    path = tmp_path / "flow.R"
    found = set()
    for name in ("ir", "ir44"):
        path.write_text(
            f"# ---\n# jupyter:\n#   kernelspec:\n#     name: {name}\n#     language: R\n#     "
            "display_name: R\n# ---\n\n# %%\nx <- 1\n"
        )
        found.add(fingerprints(read_flow(path), None)["code"])
    assert len(found) == 2


def test_code_nested_too_deeply_counts_by_its_text(tmp_path: Path) -> None:
    deep = "+".join("1" * 5000)
    assert code(tmp_path, f"x = {deep}") != code(tmp_path, f"x = {deep}  # many")


@given(
    st.lists(st.sampled_from(["x", ";", " ", "# c;", "\n", "'a;'", "if 1: y", "(", ")", "\\\n"]))
)
def test_semicolons_silence_as_in_ipython(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        compile(text, "", "exec")
    except SyntaxError:
        return
    assert _is_silenced(text) is bool(DisplayHook.semicolon_at_end_of_expression(text))
