"""Flows as standalone scripts: run by an interpreter that has neither Jupyter nor ductaflow."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ductaflow import create_standalone_python_script, run_step_flow
from ductaflow.convert.standalone import standalone_text
from ductaflow.errors import ConfigError, ConversionError, FlowNotFound, ParametersCellError

SPECIAL = "é ü 数 $a 'b'"  # a folder's name that quoting must get right


def execute(python: Path, script: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-I", str(script), *args],
        capture_output=True, encoding="utf-8", check=False, timeout=120, cwd=script.parent,
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1", **env},
    )  # fmt: skip


MAGIC = '''
# %% tags=["parameters"]
config = {"n": 3, "part": {"inner": 2.5}, "name": "Zoë"}

# %% [markdown]
# # Title with `code` and a \\ backslash

# %%
%matplotlib inline
import json
from IPython.display import display
results = {"n": n, "inner": inner, "part": part, "name": name, "config": config}

# %%
%%bash
echo "from bash" > bash.txt

# %%
!echo {name} $n > shell.txt
lines = !printf 'a\\nb\\n'
results["lines"] = list(lines)

# %%
%time results["squares"] = [i * i for i in range(n)]

# %%
%%time
text = """
  kept
    as it is
"""
results["text"] = text
display(results["n"])
len(text)

# %%
%%writefile note.txt
a note

# %% tags=["raises-exception"]
results["before"] = 1
raise ValueError("expected")

# %%
%%capture out
print("kept")

# %%
results["captured"] = str(out)
with open("results.json", "w", encoding="utf-8") as file:
    json.dump(results, file, ensure_ascii=False, sort_keys=True)
results["n"]
'''


def test_results_equal_the_notebooks(project, bare_python):
    flow = project.root / "flow" / "magic.py"
    flow.write_text(MAGIC.lstrip("\n"), "utf-8")
    config = {"n": 4, "part": {"inner": -0.5}, "name": "é"}
    run = run_step_flow("magic", "magic", "a", config)
    script = create_standalone_python_script("magic", config=config)
    assert script == project.root / "flow" / "magic_standalone.py"
    done = execute(bare_python, script)
    assert done.returncode == 0, done.stderr
    folder = project.root / "runs" / "magic" / "standalone"
    for name in ("results.json", "bash.txt", "shell.txt", "note.txt", "config.json"):
        assert (folder / name).read_bytes() == (run.dir / name).read_bytes(), name
    assert "ValueError: expected" in done.stderr
    assert done.stdout.count("wall time") == 2
    assert done.stdout.endswith("\n4\n")
    text = script.read_text("utf-8")
    assert "# # Title with `code` and a \\ backslash" in text
    assert "%matplotlib inline" not in text.replace("# %matplotlib inline (in a notebook only)", "")


def test_magics_in_comments_as_jupytext_writes_them(project, bare_python):
    """`# %matplotlib inline` in a `.py` file is a magic in its notebook."""
    project.write(
        "quiet", "# %matplotlib inline\n# !echo {x} > out.txt", parameters="config = {'x': 1}"
    )
    run = run_step_flow("quiet", "a", {"x": 3})
    done = execute(bare_python, create_standalone_python_script("quiet"), "-p", "x=3")
    assert done.returncode == 0, done.stderr
    made = project.root / "runs" / "quiet" / "standalone" / "out.txt"
    assert made.read_text() == (run.dir / "out.txt").read_text() == "3\n"


def test_command_line(project, bare_python):
    project.write(
        "talk",
        "import json, os\nprint(json.dumps([x, inner, rest, os.getcwd()]))",
        parameters="config = {'x': 1, 'part': {'inner': 2}, 'rest': None}",
    )
    script = create_standalone_python_script("talk")
    default = project.root / "runs" / "talk" / "standalone"

    def says(*args: str) -> list[object]:
        done = execute(bare_python, script, *args)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert says() == [1, 2, None, str(default)]
    assert says("-p", "x=5", "-p", "part.inner=[1, 2]", "-p", "rest=a b") == [
        5, [1, 2], "a b", str(default),
    ]  # fmt: skip
    other = project.root / "other.json"
    other.write_text('{"x": 7, "part": {"inner": 8}, "rest": 9}')
    out = project.root / SPECIAL
    assert says("--config", str(other), "--output-dir", str(out)) == [7, 8, 9, str(out)]
    assert json.loads((out / "config.json").read_text()) == json.loads(other.read_text())
    helped = execute(bare_python, script, "--help")
    assert helped.returncode == 0
    assert "--output-dir" in helped.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-p", "x"], "write -p key=value"),
        (["-p", "x.y=1"], "cannot be put into the config"),
        (["--config", "none.json"], "cannot read the config none.json"),
        (["--unheard"], "unrecognized"),
    ],
)
def test_a_wrong_command_line(project, bare_python, args, message):
    project.write("talk", "print(x)", parameters="config = {'x': 1}")
    done = execute(bare_python, create_standalone_python_script("talk"), *args)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_failing_flow_fails(project, bare_python):
    project.write("fails", "1 / 0")
    done = execute(bare_python, create_standalone_python_script("fails"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_figures_are_files_where_there_is_no_display(project, bare_python, tmp_path):
    project.write(
        "draws",
        "import matplotlib.pyplot as plt",
        "plt.plot([1, 2])\nplt.show()\nplt.plot([2, 1]);",
        "fig, ax = plt.subplots()\nfig",
        "import pandas as pd\npd.Series([1, 2]).plot()",
        "from matplotlib.figure import Figure\nFigure()",
    )
    script = create_standalone_python_script("draws")
    env = {
        "MPLCONFIGDIR": str(tmp_path / "mpl"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # from a notebook's kernel
    }
    done = execute(bare_python, script, **env)
    assert done.returncode == 0, done.stderr
    assert "non-interactive" not in done.stderr
    folder = project.root / "runs" / "draws" / "standalone"
    figures = sorted(file.name for file in folder.glob("*.png"))
    assert figures == [f"draws_figure_{n:02d}.png" for n in range(1, 6)]
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in figures)


# --- the project's modules ----------------------------------------------------------------------


@pytest.fixture
def with_code(project):
    code = project.root / "code"
    (code / "kit" / "deep").mkdir(parents=True)
    (code / "own.py").write_text('import kit.deep.tool\n"""text"""\nVALUE = "own: \\\\ \'\'\'"\n')
    (code / "kit" / "__init__.py").write_text("from . import base\n")
    (code / "kit" / "base.py").write_text("X = 1\n")
    (code / "kit" / "deep" / "__init__.py").write_text("")
    (code / "kit" / "deep" / "tool.py").write_text(
        "from ..base import X\n\ndef f():\n    return X\n"
    )
    (code / "unused.py").write_text("import IPython\n")
    project.write(
        "uses",
        "import sys\nsys.path.append('../../../code')",
        "import own\nfrom kit.deep import tool\nimport json",
        "open('out.txt', 'w').write(f'{own.VALUE} {tool.f()}')",
    )
    return project


def test_modules_are_found_from_where_the_script_lies(with_code, bare_python, tmp_path):
    script = create_standalone_python_script("uses")
    away = with_code.root / "elsewhere" / "deep" / "er"
    done = execute(bare_python, script, "--output-dir", str(away))
    assert done.returncode == 0, done.stderr
    assert (away / "out.txt").read_text() == "own: \\ ''' 1"


def test_modules_can_be_bundled(with_code, bare_python, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / SPECIAL
    script = create_standalone_python_script("uses", away, bundle=True)
    done = execute(bare_python, script)
    assert done.returncode == 0, done.stderr
    assert (away / "runs/uses/standalone/out.txt").read_text() == "own: \\ ''' 1"
    assert "unused" not in script.read_text("utf-8")


def test_a_traceback_shows_a_bundled_modules_line(with_code, bare_python, tmp_path_factory):
    (with_code.root / "code" / "own.py").write_text("def f():\n    raise KeyError('here')\n")
    with_code.write("uses", "import own", "own.f()")
    away = tmp_path_factory.mktemp("away")
    done = execute(bare_python, create_standalone_python_script("uses", away, bundle=True))
    assert done.returncode == 1
    assert "raise KeyError('here')" in done.stderr
    assert "<bundled own>" in done.stderr


def test_a_module_that_needs_a_notebook_is_refused(with_code):
    (with_code.root / "code" / "own.py").write_text("x = 1\nfrom IPython.display import HTML\n")
    with pytest.raises(ConversionError, match=r"own\.py:2: `IPython.display` is not there"):
        create_standalone_python_script("uses")
    (with_code.root / "code" / "own.py").write_text("def f(:\n")
    with pytest.raises(ConversionError, match=r"own\.py:1: does not compile"):
        create_standalone_python_script("uses")


# --- making it ----------------------------------------------------------------------------------


def test_it_says_what_it_was_made_from(project):
    flow = project.write("says", "1")
    text = create_standalone_python_script(flow).read_text("utf-8")
    import hashlib

    import ductaflow

    assert f"# made by ductaflow {ductaflow.__version__} from flow/says.py" in text
    assert f"# source sha256: {hashlib.sha256(flow.read_bytes()).hexdigest()}" in text
    assert str(project.root) not in text


def test_made_from_elsewhere_it_knows_its_project(
    project, bare_python, tmp_path_factory, monkeypatch
):
    flow = project.write("far", "open('x.txt', 'w')")
    (project.root / "ductaflow.toml").write_text('runs = "out/all"')
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    script = create_standalone_python_script(flow)
    assert "from flow/far.py\n" in script.read_text("utf-8")
    done = execute(bare_python, script)
    assert done.returncode == 0, done.stderr
    assert (project.root / "out" / "all" / "far" / "standalone" / "x.txt").exists()


def test_making_it_anew_overwrites_no_edits(project):
    flow = project.write("again", "x = 1", parameters="config = {'a': 1}")
    script = create_standalone_python_script(flow)
    config = project.root / "flow" / "again_config.json"
    first = script.read_bytes()
    assert create_standalone_python_script(flow).read_bytes() == first
    project.write("again", "x = 2", parameters="config = {'a': 2}")
    create_standalone_python_script(flow)
    assert b"x = 2" in script.read_bytes()
    assert json.loads(config.read_text()) == {"a": 2}
    config.write_text('{"a": 99}')
    create_standalone_python_script(flow)
    assert json.loads(config.read_text()) == {"a": 99}
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))  # a tool's doing, no edit
    create_standalone_python_script(flow)
    script.write_text(script.read_text() + "# mine\n")
    with pytest.raises(ConversionError, match="was edited since"):
        create_standalone_python_script(flow)
    assert script.read_text().endswith("# mine\n")
    create_standalone_python_script(flow, force=True)
    assert "# mine" not in script.read_text()
    assert json.loads(config.read_text()) == {"a": 2}
    script.write_text("somebody else's")
    with pytest.raises(ConversionError, match="was not made by ductaflow"):
        create_standalone_python_script(flow)


def test_what_cannot_be_converted_leaves_nothing(project):
    project.write("bad", "%debug")
    with pytest.raises(ConversionError, match=r"flow/bad.py:5 \(cell 2\)"):
        create_standalone_python_script("bad")
    project.write("computed", parameters="config = dict(a=1)")
    with pytest.raises(ConfigError, match="give config="):
        create_standalone_python_script("computed")
    project.write("broken", "x = = 1")
    with pytest.raises(ConversionError, match=r"broken.py:5: cell 2 does not compile"):
        create_standalone_python_script("broken")
    with pytest.raises(FlowNotFound):
        create_standalone_python_script("nowhere")
    (project.root / "flow" / "bare.py").write_text("# %%\nx = 1\n")
    with pytest.raises(ParametersCellError):
        create_standalone_python_script("bare")
    assert not list((project.root / "flow").glob("*_standalone.py"))
    assert not list((project.root / "flow").glob("*.json"))


def test_future_imports_come_first(project, bare_python):
    project.write("future", "from __future__ import annotations\ndef f(x: Unheard): pass", "f(1)")
    done = execute(bare_python, create_standalone_python_script("future"))
    assert done.returncode == 0, done.stderr


def test_other_kinds_of_notebook(project, bare_python):
    import jupytext

    flow = project.write(
        "kinds", "open('x.txt', 'w').write(str(x))", parameters="config = {'x': 1}"
    )
    notebook = jupytext.read(flow)
    for suffix in (".ipynb", ".md"):
        other = project.root / "flow" / f"kind{suffix[1:]}{suffix}"
        jupytext.write(notebook, other)
        script = create_standalone_python_script(other)
        done = execute(bare_python, script, "-p", "x=2")
        assert done.returncode == 0, done.stderr
        folder = project.root / "runs" / other.stem / "standalone"
        assert (folder / "x.txt").read_text() == "2"


def test_the_text_compiles_for_the_oldest_python(project):
    import ast

    from ductaflow.convert.source import find_source

    flow = project.root / "flow" / "magic.py"
    flow.write_text(MAGIC.lstrip("\n"), "utf-8")
    text = standalone_text(find_source(flow, None, None), "c.json", None)
    ast.parse(text, feature_version=(3, 10))
