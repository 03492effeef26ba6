"""Cells as plain Python: what each magic becomes, and what is refused, with cell and line."""

from __future__ import annotations

import ast
import builtins
import math
import os
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ductaflow.convert import runtime as rt
from ductaflow.convert import runtime_flows, runtime_magics
from ductaflow.convert.cells import plain_cell
from ductaflow.convert.edits import indented
from ductaflow.convert.embed import needed_by, runtime
from ductaflow.errors import ConversionError
from ductaflow.model.flows import Cell, Tag
from ductaflow.plans.values import parse_value
from ductaflow.plans.variables import flatten


def plain(source: str, *, kind: str = "code", tags: tuple[str, ...] = (), line: int = 10) -> str:
    metadata = {"tags": list(tags)} if tags else {}
    return plain_cell(Cell(kind, source, number=3, line=line, metadata=metadata), "flow/x.py")


def run(source: str, **names: Any) -> dict[str, Any]:
    """Run a translated cell with the runtime that it asks for, as a script would."""
    code = plain(source)
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(f"{runtime(needed_by(code))}\n{code}", "script", "exec"), space)
    return space


# --- what stays as it is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "x = 1  # a comment\n\n\ny = (2,\n     3)",
        "for i in range(3):\n    print(i)",
        'text = """\n  %matplotlib inline\n  !ls\n"""',
        "print(x)",
        "import pandas as pd",
        "x = y % z",
        "def f():\n    '''Docs?'''\n    return 1",
    ],
)
def test_plain_python_stays_as_it_is(source):
    assert plain(source) == source


def test_markdown_and_raw_cells_become_comments():
    assert plain("# Title\n\nText", kind="markdown") == "# # Title\n#\n# Text"
    assert plain("raw", kind="raw") == "# raw"
    assert plain("1 / 0", tags=(Tag.SKIP,)) == "# 1 / 0"
    assert plain("") == ""


# --- what a cell shows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("1 + 1", "2\n"),
        ("x = 5\nx", "5\n"),
        ("'text'", "'text'\n"),
        ("1, 2", "(1, 2)\n"),
        ("(y := 7)", "7\n"),
        ("None", ""),
        ("5;", ""),
        ("5  ;  # quiet", ""),
        ("5  # not quiet;", "5\n"),
        ("f'''\n{1 + 1}\n'''", "'\\n2\\n'\n"),
        ("[i\n for i in range(2)]", "[0, 1]\n"),
        ("if True:\n    5", ""),
        ("print('once')", "once\n"),
    ],
)
def test_the_last_expression_is_shown(capsys, source, shown):
    run(source)
    assert capsys.readouterr().out == shown


def test_display_and_rich_outputs(capsys):
    run(
        "from IPython.display import HTML, Markdown, clear_output, display\n"
        "clear_output(wait=True)\n"
        "display('a', 2)\n"
        "handle = display(Markdown('**b**'), display_id=True)\n"
        "handle.update(3)\n"
        "display({'text/plain': 'plain', 'text/html': '<b>'}, raw=True)\n"
        "HTML('<p>c</p>')"
    )
    assert capsys.readouterr().out == "'a'\n2\n**b**\n3\nplain\nc\n"


def test_data_frames_show_all_their_columns(capsys):
    import pandas as pd

    run("frame", frame=pd.DataFrame({f"column_{i}": [i] for i in range(40)}))
    out = capsys.readouterr().out
    assert "column_0" in out
    assert "column_20" in out


# --- magics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline",
        "%load_ext autoreload\n%autoreload 2",
        "%config InlineBackend.figure_format = 'retina'",
        "len?",
        "if True:\n    %matplotlib inline",
        "%%html\n<b>bold</b>",
        "%%markdown\n# Title",
        "get_ipython().run_line_magic('matplotlib', 'inline')",
    ],
)
def test_what_is_for_notebooks_only_does_nothing(source):
    code = plain(source)
    ast.parse(code)
    assert "_nb_" not in code
    assert "get_ipython()" not in "".join(line.partition("#")[0] for line in code.splitlines())


def test_time(capsys):
    space = run("%time x = 3\n%time y = x + 1; z = 5\nv = %time x * 2\n%time x * 3")
    assert (space["x"], space["y"], space["z"], space["v"]) == (3, 4, 5, 6)
    out = capsys.readouterr().out
    assert out.count("wall time") == 4
    assert out.endswith("\n9\n")


def test_time_of_a_cell(capsys):
    space = run("%%time\ntext = '''a\n  b'''\nif text:\n    x = 1\ntext")
    assert space["text"] == "a\n  b"
    assert capsys.readouterr().out.startswith("'a\\n  b'\nCPU time")
    run("%%time\n%%time\nx = 1")
    assert capsys.readouterr().out.count("wall") == 2


def test_timeit(capsys):
    calls: list[int] = []
    run("%timeit -n 3 -r 2 f(1)", f=calls.append)
    assert len(calls) == 6
    run("%%timeit -n1 -r1 n = 4\nf(n)\nf(n)", f=calls.append)
    assert calls[6:] == [4, 4]
    assert capsys.readouterr().out.count("per loop") == 2


def test_shell_lines(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = run(
        "name = 'a file'\n!echo {name} $name $HOME_NOT {1 + 1}\n!echo \"{name.upper()}\"\n"
        "lines = !printf 'one\\ntwo\\n'\n!exit 3",
        HOME_NOT="set",
    )
    assert capfd.readouterr().out == "a file a file set 2\nA FILE\n"
    assert list(space["lines"]) == ["one", "two"]
    assert (space["lines"].n, space["lines"].s) == ("one\ntwo", "one two")
    assert space["_exit_code"] == 3


def test_shell_lines_leave_what_they_do_not_know(capfd, monkeypatch):
    monkeypatch.setenv("DF_TEST", "from outside")
    run("!echo $DF_TEST '{not a name}'")
    assert capfd.readouterr().out == "from outside {not a name}\n"


def test_shell_lines_in_functions_see_their_names(capfd):
    run("def f(x):\n    !echo {x}\n    found = !echo $x\n    return found\nf('inner')")
    assert capfd.readouterr().out == "inner\n['inner']\n"


def test_scripts(capfd):
    run("%%bash\nx='a\\tb'\necho \"$x\" \"'''\"")
    assert capfd.readouterr().out == "a\\tb '''\n"
    run("%%script cat\n  indented {x}\n")
    assert capfd.readouterr().out == "  indented {x}\n"
    with pytest.raises(Exception, match="exit status 4"):
        run("%%bash\nexit 4")
    run("%%bash --no-raise-error\nexit 4")


def test_files_folders_and_variables(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DF_NEW", raising=False)
    run("%%writefile a.txt\none {x}\n'''two'''\\n", x=1)
    run("%%writefile -a a.txt\nthree\n", x=1)
    assert (tmp_path / "a.txt").read_text() == "one {x}\n'''two'''\\n\nthree\n"
    run("%mkdir sub\n%cd sub\n%env DF_NEW=value of {x}\n%pwd", x=1)
    assert os.environ.pop("DF_NEW") == "value of 1"
    assert capsys.readouterr().out.splitlines()[-1] == repr(str(tmp_path / "sub"))


def test_capture(capsys):
    space = run("%%capture kept\nprint('hidden')\nimport sys\nprint('err', file=sys.stderr)")
    assert capsys.readouterr() == ("", "")
    assert (space["kept"].stdout, space["kept"].stderr) == ("hidden\n", "err\n")
    space["kept"].show()
    assert capsys.readouterr() == ("hidden\n", "err\n")
    with pytest.raises(ZeroDivisionError):
        run("%%capture\n1 / 0")
    assert sys.stdout is not None
    print("again")
    assert capsys.readouterr().out == "again\n"


def test_a_cell_that_may_raise(capsys):
    code = plain("x = 1\n1 / 0", tags=(Tag.RAISES,))
    space: dict[str, Any] = {}
    exec(f"{runtime(needed_by(code))}\n{code}\ny = 2", space)
    assert (space["x"], space["y"]) == (1, 2)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_await_outside_functions(capsys):
    space = run(
        "import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n    return n\n"
        "x = await f(1)\ntext = '''a\n  b'''\nawait f(5)"
    )
    assert (space["x"], space["text"]) == (1, "a\n  b")
    assert capsys.readouterr().out == "5\n"
    space["_nb_state"]["loop"].close()
    space = run("%%time\ny = [i async for i in g()]\nlen(y)", g=_numbers)
    assert space["y"] == [0, 1]
    assert capsys.readouterr().out.startswith("2\nCPU time")
    space["_nb_state"]["loop"].close()


async def _numbers():
    for i in range(2):
        yield i


# --- imports ------------------------------------------------------------------------------------


def test_imports_of_what_only_notebooks_have():
    assert plain("from tqdm.notebook import tqdm") == "from tqdm import tqdm"
    assert plain("from ductaflow import record as r") == "r = _nb_nothing"
    guarded = "try:\n    import ipywidgets\nexcept ImportError:\n    ipywidgets = None"
    assert plain(guarded) == guarded
    nested = plain("def f():\n    from IPython.display import display, HTML\n    display(1)")
    assert nested == "def f():\n    display = _nb_display\n    HTML = _nb_Rich\n    display(1)"


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("x = 1\n%debug", 11, "`%debug` has no meaning"),
        ("\nx = 1\nif x:\n    %run other.py", 13, "`%run` has no meaning in a script; import it"),
        ("%%R\nx <- 1", 10, "`%%R` has no meaning in a script"),
        ("%%time\nx = 1\n%store x", 12, "`%store` .* write a file"),
        ("x = %sql SELECT 1", 10, "`%sql`"),
        ("%unheard_of", 10, "`%unheard_of`"),
        ("x = %cd sub", 10, "the value of this magic"),
        ("%timeit -o f()", 10, "only the options"),
        ("%%capture --no-stderr x\nf()", 10, "%%capture"),
        ("%%bash --out x\nls", 10, "--out has no meaning"),
        ("from os import *\nawait f()", 10, "`await` .* that no function can hold: import"),
        ("await f()\nx: int = 1", 10, "`await` .* that no function can hold: annotated"),
        ("import IPython", 10, "`import IPython` needs a notebook"),
        ("import ductaflow", 10, "from ductaflow import"),
        ("x = 1\nfrom ductacore import record, sweep", 11, "`sweep` of ductacore needs ductaflow"),
        ("from ductaflow import *", 10, r"`\*` of ductaflow"),
        ("from IPython.display import Unheard", 10, "`Unheard`"),
        ("import ipywidgets as w", 10, "`import ipywidgets`"),
        ("get_ipython().set_next_input('x')", 10, "set_next_input"),
        ("n = 'time'\nget_ipython().run_line_magic(n, '')", 11, "known only when it runs"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_its_place(source, line, message):
    with pytest.raises(ConversionError, match=message) as e:
        plain(source)
    assert str(e.value).startswith(f"flow/x.py:{line} (cell 3): ")


def test_without_lines_the_place_is_the_cells():
    with pytest.raises(ConversionError, match=r"flow/x\.ipynb, cell 3, line 2: "):
        plain_cell(Cell("code", "x = 1\n%debug", number=3), "flow/x.ipynb")


# --- the parts copied into scripts --------------------------------------------------------------


def test_parts_need_nothing_but_what_they_bring():
    parts = {**vars(rt), **vars(runtime_magics), **vars(runtime_flows)}
    names = [name for name in parts if name.startswith("_nb_")]
    source = runtime(names)
    tree = ast.parse(source)
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    defined |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets}
    defined |= {a.asname for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    assert all(name.startswith("_nb_") for name in defined)
    assert set(names) <= defined
    assert "Any" not in source
    assert "noqa" not in source
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    free = {n for n in used if n.startswith("_nb_")} - defined
    assert free == set()
    kinds = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.Import
    top = [n for n in tree.body if not isinstance(n, kinds)]
    assert top == []
    names_at_top = set(dir(builtins)) | defined
    code = compile(source, "runtime", "exec")
    space: dict[str, Any] = {}
    exec(code, space)
    assert set(space) - {"__builtins__"} <= names_at_top


def test_only_what_is_needed_is_copied():
    assert needed_by("_nb_show(1)") == {"_nb_show"}
    assert "def _nb_display" in runtime({"_nb_show"})
    assert "_nb_shell" not in runtime({"_nb_show"})


KEYS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["a", "b", "class", "config", "_", "_1", "__x__", "ﬁ", "get_ipython", "_i", "é"]
    ),
)


@given(st.dictionaries(KEYS, st.one_of(st.integers(), st.dictionaries(KEYS, st.integers()))))
def test_flattening_is_the_same(config):
    assert rt._nb_flatten_unless(config) == flatten(config)


@pytest.mark.parametrize(
    "text",
    ["1", "-1", "+7", "1.5", "1e3", ".5", "1.", "true", "False", "null", "~", "", "text", "a b",
     "no", "yes", "on", "2024-01-02", "1:30", "007", "[1, 2]", '{"a": [true, null]}', '"1"',
     "'it''s'", ".inf", "-.inf", "a=b", "/path/to", "C:\\x", "1_000", "0.1.2"],
)  # fmt: skip
def test_values_on_command_lines_are_read_alike(text):
    """By scripts without YAML, and by the command, which has it."""
    assert rt._nb_value(text) == parse_value(text, "-p x")
    assert type(rt._nb_value(text)) is type(parse_value(text, "-p x"))


def test_nan_on_a_command_line():
    assert math.isnan(rt._nb_value(".nan"))
    assert math.isnan(parse_value(".nan", "-p x"))


@given(st.text(alphabet='ab\n \\"{}', max_size=12))
def test_indenting_changes_no_text(text):
    inner = text.replace("\\", "/").replace("{", "{{").replace("}", "}}")
    source = f"x = {text!r}\ny = f'''{inner}\n  z'''\nz = [1,\n'a'\n'b']"
    spaces: list[dict[str, Any]] = [{}, {}]
    exec(source, spaces[0])
    exec(f"if True:\n{indented(source)}", spaces[1])
    assert [spaces[1][name] for name in "xyz"] == [spaces[0][name] for name in "xyz"]
