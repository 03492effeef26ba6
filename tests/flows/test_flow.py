import gc
import json
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from ductaflow.errors import FlowError, FlowNotFound, ParametersCellError
from ductaflow.flows import reading as flow_module
from ductaflow.flows import syntax as syntax_module
from ductaflow.flows.finding import resolve_flow
from ductaflow.flows.parameterscell import _PARAMETERS_LINES, require_parameters
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import check_syntax, language, parse_python
from ductaflow.flows.tracebacks import annotate_traceback, locate
from ductaflow.model.flows import Cell

PERCENT = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A flow
#
# with text

# %% tags=["parameters"]
config = {"a": 1}

# %%
# %matplotlib inline
# !ls
x = 1

# %%
def f():
    """Text.

# %% this is no cell
    """

# %%
x = 1

# %% [markdown]
"""
quoted
"""

# %%


x = 1

# %% [raw]
# raw text

# %%
# a comment
x = 1

# %%
# %%time
x = 1
'''


MYST = """\
---
kernelspec:
  name: python3
  display_name: P
jupytext:
  text_representation:
    extension: .md
    format_name: myst
---

# Title

```{code-cell}
:tags: [parameters]

x = 1
```
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="x.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            text = text.encode()
        path.write_bytes(text)
        return path

    return write


@pytest.fixture
def flow_of(write):
    return lambda text, name="x.py": read_flow(write(text, name))


# --- reading


def test_a_percent_script(flow_of):
    flow = flow_of(PERCENT)
    assert flow.name == "x"
    assert flow.metadata["kernelspec"]["name"] == "python3"
    assert language(flow) == "python"
    assert flow.parameters == 1
    assert [(c.number, c.kind, c.line, c.source.splitlines()[0]) for c in flow.cells] == [
        (1, "markdown", 10, "# A flow"),
        (2, "code", 15, 'config = {"a": 1}'),
        (3, "code", 18, "%matplotlib inline"),
        (4, "code", 23, "def f():"),
        (5, "code", 30, "x = 1"),
        (6, "markdown", 34, "quoted"),
        (7, "code", 38, ""),
        (8, "raw", 43, "raw text"),
        (9, "code", 46, "# a comment"),
        (10, "code", 50, "%%time"),
    ]
    assert flow.cells[2].source == "%matplotlib inline\n!ls\nx = 1"
    assert flow.cells[6].source == "\n\nx = 1"


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_any_line_ends_and_a_bom(flow_of, newline):
    flow = flow_of(b"\xef\xbb\xbf" + PERCENT.replace("\n", newline).encode())
    lines = [c.line for c in flow.cells]
    assert lines == [10, 15, 18, 23, 30, 34, 38, 43, 46, 50]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("light.py", "# # Title\n\nx = 1\n\n# + tags=['parameters']\n# !ls\ny = 2\n", [1, 3, 6]),
        (
            "x.md",
            "# Title\n\n```python\nx = 1\n```\n\ntext\n\n```python\nx = 1\n```\n",
            [1, 4, 7, 10],
        ),
        (
            "myst.md",
            MYST,
            [11, 16],
        ),
        ("x.Rmd", "# Title\n\n```{python tags=c('parameters')}\nx = 1\n```\n", [1, 4]),
        ("x.R", "# %%\nx <- 1\n\n# %% [markdown]\n# text\n", [2, 5]),
        ("x.jl", "# %%\n# ] add X\nx = 1\n", [2]),
        ("bash.py", '# %%\nx = 1\n\n# %% language="bash"\n# ls\n# ls\n\n# %%\nx = 1\n', [2, 4, 9]),
        ("feed.py", "# %%\nx = '\f'\n\n# %%\ny = 2\n", [2, 5]),
        ("empty.py", "# %%\n\n# %%\n# %%\nx = 1\n", [None, None, 5]),
    ],
)
def test_lines_in_other_formats(flow_of, name, text, lines):
    assert [c.line for c in flow_of(text, name).cells] == lines


CODE = [
    "x = 1", "x = 1\ny = 2", "%matplotlib inline\nx = 1", "!ls\nx = 1", "# only a comment",
    "def f():\n    '''doc\n# %% not a cell\n    '''\n\n\n    return 1", "a = 1\n\n\nb = 2",
    "%%bash\nls", "%%time\nx = 1", "", "\n\nx = 5", "for i in x:\n    !echo {i}", "x?", "ls",
    "'''a\nb'''", "# # x", "#x", "x = 1 ",
]  # fmt: skip
TEXT = [
    "# Title", "text", "x = 1", "a\n\nb", "", "- a\n- b", "```mermaid\n%% c\n```", "# x = 1", "`x`",
    "# # t", "%matplotlib inline",
]  # fmt: skip


@pytest.mark.parametrize(
    ("fmt", "marker"),
    [("py:percent", None), ("py:percent", '"""'), ("py:hydrogen", None),
     ("py:light", None), ("md", None)],
)  # fmt: skip
def test_lines_are_where_jupytexts_own_reader_stood(fmt, marker, monkeypatch, flow_of):
    """A recording reader tells at which line it stood; cells of any mix must agree with it."""
    from jupytext.cell_reader import BaseCellReader

    original = BaseCellReader.read
    stood = []

    def read(self, lines):
        before = list(lines)
        cell, position = original(self, lines)
        content = list(self.org_content)
        offset = next((o for o in (0, 1) if before[o : o + len(content)] == content), 0)
        stood.append((len(before) - offset, content, cell))
        return cell, position

    monkeypatch.setattr(BaseCellReader, "read", read)
    for seed in range(60):
        rng = random.Random(seed)
        cells = []
        for _ in range(rng.randint(1, 9)):
            kind = rng.choice([new_code_cell, new_code_cell, new_markdown_cell, new_raw_cell])
            cells.append(kind(rng.choice(CODE if kind is new_code_cell else TEXT)))
            if marker and cells[-1].cell_type == "markdown" and cells[-1].source:
                cells[-1].metadata["cell_marker"] = marker
        text = jupytext.writes(new_notebook(cells=cells), fmt)
        stood.clear()
        flow_module._parsed.clear()
        flow = flow_of(text, f"x.{fmt.partition(':')[0]}")
        total = len(flow.path.read_text().splitlines())
        assert len(stood) == len(flow.cells)
        for cell, (left, content, _) in zip(flow.cells, stood, strict=True):
            expected = total - left + 1
            first = cell.source.split("\n")[0]
            if marker and cell.kind == "markdown":
                expected += content[0].strip() == marker
            elif first.startswith("%%") and not any(first in line for line in content):
                expected -= 1  # jupytext made this line from the marker
            assert cell.line == (expected if cell.source.strip() else None), (seed, text)


def ipynb(*cells, **top):
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **top})


def code(source, tags=(), **more):
    cell = {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}}
    return {**cell, "outputs": [{"output_type": "stream"}], "execution_count": 1, **more}


def test_an_executed_notebook_is_a_flow_again(flow_of):
    flow = flow_of(
        ipynb(
            {
                "cell_type": "markdown",
                "source": "table",
                "metadata": {"tags": ["ductaflow-config"]},
            },
            code(["a = 1\n", "b = 2"], ["parameters"], id="mine"),
            code("config = {}", ["injected-parameters"]),
            code("x = config['x']", ["ductaflow-flatten"]),
            {"cell_type": "markdown", "source": "![](attachment:a)", "attachments": {"a": {}}},
            code("twice", id="mine"),
            code("no id"),
            code("not an id", id="a b"),
        ),
        "x.ipynb",
    )
    assert [c.number for c in flow.cells] == [1, 2, 3, 4, 5]
    assert flow.cells[0].source == "a = 1\nb = 2"
    assert flow.cells[1].attachments == {"a": {}}
    assert {c.line for c in flow.cells} == {None}
    assert not {"outputs", "execution_count"} & set(flow.cells[0].metadata)
    ids = [c.id for c in flow.cells]
    assert ids[0] == "mine"
    assert len(set(ids)) == 5
    assert flow.parameters == 0


def test_inserted_cells_of_a_script_are_dropped_and_lines_stay(flow_of):
    flow = flow_of(
        '# %% tags=["parameters"]\nconfig = {}\n\n'
        '# %% tags=["injected-parameters"]\nconfig = {}\n\n# %%\nx = 1\n'
    )
    assert [(c.number, c.line) for c in flow.cells] == [(1, 2), (2, 8)]


def test_old_notebooks_are_upgraded(flow_of):
    old = {
        "nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""},
        "worksheets": [{"cells": [
            {"cell_type": "code", "input": ["a = 1\n", "b"], "language": "python", "outputs": []},
            {"cell_type": "heading", "level": 2, "source": ["Title"]},
        ]}],
    }  # fmt: skip
    flow = flow_of(json.dumps(old), "x.ipynb")
    assert [(c.kind, c.source) for c in flow.cells] == [
        ("code", "a = 1\nb"),
        ("markdown", "## Title"),
    ]


def test_ids_are_valid_unique_and_of_the_text(flow_of, write):
    first = flow_of(PERCENT)
    again = flow_of("# %%\nnew = 1\n\n" + PERCENT.split("# ---\n\n")[1], "other.py")
    ids = [c.id for c in first.cells]
    assert len(set(ids)) == len(ids)
    assert all(i.replace("-", "").isalnum() and 1 <= len(i) <= 64 for i in ids)
    assert [c.id for c in again.cells][1:] == ids


def test_a_version_is_parsed_once_by_however_many_threads(write, monkeypatch):
    path = write("# %%\nx = 'threads'\n")
    calls = []
    original = flow_module.parse_flow
    monkeypatch.setattr(flow_module, "parse_flow", lambda *a: calls.append(a) or original(*a))
    flows = []
    threads = [threading.Thread(target=lambda: flows.append(read_flow(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(flow is flows[0] for flow in flows)
    path.write_text("# %%\nx = 'edited'\n")
    assert read_flow(path).cells[0].source == "x = 'edited'"
    assert len(calls) == 2


def test_the_cache_is_bounded(write):
    for i in range(flow_module._CACHED_VERSIONS + 5):
        read_flow(write(ipynb(code(str(i))), "x.ipynb"))
    assert len(flow_module._parsed) == flow_module._CACHED_VERSIONS


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.py", b"x = 1\n# %%\ny = '\xff'\n", r"x\.py:3: .*not UTF-8"),
        ("x.ipynb", b"{", "cannot read .*x.ipynb as a notebook"),
        ("x.ipynb", b"[]", "not a Jupyter notebook"),
        ("x.ipynb", ipynb({"cell_type": "odd", "source": ""}), "cell 1 has the type 'odd'"),
        ("x.ipynb", b'{"nbformat": 4}', "cannot read"),
        ("x.csv", b"a,b", "cannot read .*x.csv"),
        ("x.py", b"# ---\n# jupyter:\n#   a: [\n# ---\n", "cannot read .*x.py"),
    ],
)
def test_what_is_no_flow_says_so(flow_of, name, data, says):
    with pytest.raises(FlowError, match=says) as caught:
        flow_of(data, name)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_missing_file_names_the_nearest(write, tmp_path):
    write("x = 1", "flow/generate_inputs.py")
    write("x = 1", "analysis.py")
    with pytest.raises(FlowNotFound, match=r"did you mean .*flow.generate_inputs\.py\?"):
        read_flow(tmp_path / "generate_input.py")
    with pytest.raises(FlowNotFound, match=r"analysis\.py"):
        read_flow(tmp_path / "analyses.py")
    with pytest.raises(FlowNotFound, match="is a folder"):
        read_flow(tmp_path / "flow")


# --- the parameters cell


def test_the_parameters_cell(flow_of):
    assert require_parameters(flow_of(PERCENT)) == 1


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("x.py", "# %%\nx = 1\n", '# %% tags=["parameters"]\nconfig = {}\n# %%'),
        ("x.py", "x = 1\n\n# + a='b'\ny = 1\n", '# + tags=["parameters"]\nconfig = {}\n# -'),
        ("x.md", "text\n", '```python tags=["parameters"]\nconfig = {}\n```'),
        ("x.ipynb", ipynb(code("x = 1")), "give it the cell tag `parameters`"),
        ("x.py", '# %% [markdown] tags=["parameters"]\n# text\n', "line 2 is markdown"),
    ],
)
def test_without_one_the_lines_to_add_are_told(flow_of, name, text, lines):
    flow = flow_of(text, name)
    assert flow.parameters is None
    with pytest.raises(ParametersCellError) as caught:
        require_parameters(flow)
    assert lines in str(caught.value)
    assert str(flow.path) in str(caught.value)


def test_the_told_lines_make_a_parameters_cell(flow_of):
    for name, told in [("x.py", "percent"), ("x.md", "markdown"), ("x.Rmd", "rmarkdown")]:
        flow = flow_of(_PARAMETERS_LINES[told] + "\n", name)
        assert flow.cells[require_parameters(flow)].source == "config = {}"


def test_two_are_one_too_many(flow_of):
    with pytest.raises(ParametersCellError, match=r"2 cells are tagged .*line 2, line 5"):
        require_parameters(flow_of('# %% tags=["parameters"]\nx = 1\n\n' * 2))


# --- syntax


def test_threads_parse_at_the_same_time() -> None:
    """Python 3.11 mixes their depths up where another thread runs during a collection."""
    source = Path(syntax_module.__file__).read_text("utf-8")

    def switch(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.callbacks.append(switch)
    gc.set_threshold(10)
    try:
        with ThreadPoolExecutor(8) as threads:
            trees = list(threads.map(parse_python, [source] * 200))
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(switch)
    assert all(trees)


def test_what_compiles(flow_of):
    source = textwrap.dedent(
        r"""
        # %%
        # %matplotlib inline
        # !ls \
        #   -l
        files = !ls
        # x?
        await f()
        async with g() as h:
            pass

        # %%
        x = 1
        from __future__ import annotations

        # %%
            indented = "\d" is 1

        # %%
        # %%bash
        # if [ -e x ]; then ls; fi

        # %%
        >>> prompted = 1

        # %% tags=["raises-exception"]
        x = = 1

        # %% tags=["skip-execution"]
        x = = 1

        # %% [markdown]
        # x = = 1
        """
    )
    assert check_syntax(flow_of(source)) is None


@pytest.mark.parametrize(
    ("source", "line", "cell_line", "text"),
    [
        ("# %%\nx = 1\n\n# %%\ny = 1\nb = = 2\n", 6, 2, "b = = 2"),
        ("# %%\n# %matplotlib inline\nb = = 2\n", 3, 2, "b = = 2"),
        ("# %%\n# !echo \\\n#   a \\\n#   b\nx = 1\nb = = 2\n", 6, 5, "b = = 2"),
        ("# %%\n\n\n# %time 1\n\nb = = 2\n", 6, 5, "b = = 2"),
        ("# %%\n\n\nb = = 2\n", 4, 3, "b = = 2"),
        ("# %%\n    # %time 1\n    x = 1\n    b = = 2\n", 4, 3, "b = = 2"),
        ("# %%\nreturn 1\n", 2, 1, "return 1"),
        ("# %%\nx = 1\nf'{'\n", 3, 2, "f'{'"),
    ],
)
def test_what_does_not(flow_of, source, line, cell_line, text):
    problem = check_syntax(flow_of(source))
    assert (problem.line, problem.cell_line, problem.text) == (line, cell_line, text)
    assert problem.message


def test_in_a_notebook_the_cell_is_told(flow_of):
    problem = check_syntax(flow_of(ipynb(code("x = 1"), code("\nx = (")), "x.ipynb"))
    assert (problem.cell, problem.line, problem.cell_line) == (2, None, 2)


def test_compiling_neither_warns_nor_changes_the_filters_for_others(flow_of):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert check_syntax(flow_of('# %%\nx = "\\d"\ny = x is 1\nassert (x, "a")\n')) is None
        warnings.warn("seen", SyntaxWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["seen"]


def test_a_version_is_checked_once(flow_of, monkeypatch):
    flow = flow_of("# %%\nx = 'checked once'\n")
    check_syntax(flow)
    monkeypatch.setattr(syntax_module, "compile_error", None)
    assert check_syntax(flow) is None


def test_plain_python_needs_no_ipython():
    code = (
        "import sys; from pathlib import Path\n"
        "import ductaflow.flows.syntax as f, ductaflow.flows.tracebacks as t\n"
        "assert not {'jupytext', 'nbformat', 'IPython'} & set(sys.modules)\n"
        "f._compile_problem('x = 1'); t._source_line('x = 1', 1)\n"
        "assert 'IPython' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- from the kernel's lines to the flow's


def test_locate():
    cell = Cell("code", "\n\nx = 1\ny = 2", number=3, line=10)
    assert locate(cell, 2, "flow/x.py") == "flow/x.py:13"
    magic = Cell("code", "!echo \\\n  a\nx = 1", number=3, line=10)
    assert locate(magic, 2, "flow/x.py") == "flow/x.py:12"
    in_notebook = Cell("code", "x = 1\ny = 2", number=3)
    assert locate(in_notebook, 2, "flow/x.ipynb") == "flow/x.ipynb, cell 3, line 2"


SHELL = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors=sys.argv[1])
shell._showtraceback = lambda kind, error, lines: json.dump(lines, sys.stdout) or print()
for cell in json.load(sys.stdin):
    shell.run_cell(cell, store_history=True)
"""


def tracebacks(cells, colours="NoColor"):
    """The tracebacks that the installed IPython makes of cells that fail."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHELL, colours],
        input=json.dumps(cells), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain(lines):
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines)).splitlines()


@pytest.mark.parametrize("colours", ["nocolor", "linux", "neutral"])
def test_tracebacks_of_the_installed_ipython(colours, tmp_path):
    sources = [
        "def f(a):\n    return 1 / a",
        "\n\nf(0)",
        "x = 1\nb = = 2",
        "try:\n    f(0)\nexcept Exception as e:\n    raise ValueError('Cell In[1], line 2') from e",
        "import json\njson.loads('{')",
    ]
    cells = {i: Cell("code", s, number=i, line=i * 100) for i, s in enumerate(sources, 1)}
    zero, syntax, chained, library = tracebacks(sources, colours)
    assert colours == "nocolor" or "\x1b" in zero[0]

    def frames(lines):
        annotated = annotate_traceback(lines, cells, "flow/x.py")
        assert len(annotated) == len(lines)
        changed = [a for a, b in zip(plain(annotated), plain(lines), strict=True) if a != b]
        untouched = [b for a, b in zip(annotated, lines, strict=True) if a == b]
        assert any("Traceback" in line for line in untouched) or lines is syntax
        return changed

    assert frames(zero) == [
        "Cell In[2], line 1 (flow/x.py:202)",
        "Cell In[1], line 2 (flow/x.py:101), in f(a)",
    ]
    assert [line.strip() for line in frames(syntax)] == ["Cell In[3], line 2 (flow/x.py:301)"]
    assert frames(chained) == [
        "Cell In[4], line 2 (flow/x.py:401)",
        "Cell In[1], line 2 (flow/x.py:101), in f(a)",
        "Cell In[4], line 4 (flow/x.py:403)",
    ]
    assert frames(library) == ["Cell In[5], line 2 (flow/x.py:501)"]


def test_a_traceback_of_ipython_8():
    red, green, cyan, end = "\x1b[0;31m", "\x1b[0;32m", "\x1b[0;36m", "\x1b[0m"
    lines = [  # recorded from 8.12.3, the rules and the code shortened
        f"{red}------{end}",
        f"{red}ZeroDivisionError{end}      Traceback (most recent call last)",
        f"Cell {green}In[3], line 1{end}\n{green}----> 1{end} \x1b[43mf\x1b[49m\x1b[43m(\x1b[49m\n",
        f"Cell {green}In[2], line 2{end}, in {cyan}f\x1b[0;34m(a){end}\n\x1b[1;32m      1{end}\n",
        f"{cyan}  Cell {green}In[2], line 2{cyan}{end}\n{red}    b = = 2{end}\n",
        f"{red}ZeroDivisionError{end}: division by zero",
    ]
    cells = {
        2: Cell("code", "def f(a):\n    return 1/a", number=1, line=20),
        3: Cell("code", "f(0)", number=2, line=45),
    }
    annotated = annotate_traceback(lines, cells, "flow/x.py")
    assert annotated[2].startswith("Cell \x1b[0;32mIn[3], line 1\x1b[0m (flow/x.py:45)\n")
    assert annotated[3].startswith("Cell \x1b[0;32mIn[2], line 2\x1b[0m (flow/x.py:21), in ")
    assert "line 2\x1b[0;36m\x1b[0m (flow/x.py:21)\n" in annotated[4]
    assert [annotated[i] for i in (0, 1, 5)] == [lines[i] for i in (0, 1, 5)]


def test_frames_of_inserted_and_unknown_cells_stay():
    lines = ["Cell In[1], line 1\n----> 1 x\n", "Cell In[9], line 1\n"]
    assert annotate_traceback(lines, {1: Cell("code", "x")}, "flow/x.py") == lines


# --- finding


def test_resolve(write, tmp_path):
    root, cwd = tmp_path / "project", tmp_path / "elsewhere"
    flow = write("x", "project/flow/step.py")
    write("{}", "project/flow/step.ipynb")
    other = write("x", "project/flows/other.md")
    near = write("x", "elsewhere/flow/near.py")
    write("x", "elsewhere/step")
    for name, expected in [
        ("step", flow),
        ("step.py", flow),
        ("flow/step.py", flow),
        ("flow/step", flow),
        (flow, flow),
        ("../project/flow/step.py", flow),
        ("step.ipynb", flow.with_suffix(".ipynb")),
        ("other", other),
        ("flow/near.py", near),
    ]:
        assert resolve_flow(name, root, cwd) == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("stepp", "did you mean flow/step.py"),
        ("flow/stepp.py", "did you mean flow/step.py"),
        ("STEP_", "did you mean flow/step.py"),
        ("zzzzzz", "searched .*flow"),
        ("", "an empty name: there is no such flow"),
        ("flow", "is a folder"),
    ],
)
def test_what_cannot_be_resolved_names_the_nearest(write, tmp_path, name, says):
    write("x", "flow/step.py")
    with pytest.raises(FlowNotFound, match=says):
        resolve_flow(name, tmp_path, tmp_path)
