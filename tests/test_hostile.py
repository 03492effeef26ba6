"""Hostile names and values: nothing that they say is run, and nothing leaves where it belongs."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import jupytext
import pytest
from browser import chromium, visit  # noqa: F401
from conftest import Project, requires_posix, wait_until

from ductaflow import (
    collate,
    create_flow_bat_runner,
    create_flow_run_script,
    create_standalone_python_script,
    export,
    generate_status_report,
    get_all_instances,
    make_new_ductaflow_instance,
    run_step_flow,
    sweep,
)
from ductaflow.cli.main import main
from ductaflow.cli.output import dump
from ductaflow.convert.debugging import debug_flow
from ductaflow.errors import ConversionError, DuctaflowError, ExportError, NameRefused, RunFailed
from ductaflow.history.run import Run
from ductaflow.progress.echo import Echo
from ductaflow.project.layout import instance_dir
from ductaflow.text.escapes import harmless, one_line
from ductaflow.text.quoting import visible

PYTHON = "open('pwned', 'w')"
NAMES = [
    f'a"""\n{PYTHON}\n"""',
    f'"""\n{PYTHON}\n"""',
    f"'''\n{PYTHON}\n'''",
    f'a";{PYTHON};"',
    f"a';{PYTHON};'",
    f"a\n{PYTHON}",
    f"a\r{PYTHON}",
    f"a\r\n{PYTHON}\r\n",
    f"a\f{PYTHON}",
    f"a\u2028{PYTHON}",
    f"a\u0085{PYTHON}",
    f"a\\\n{PYTHON}",
    'ends with a quote"',
    "ends with a backslash\\",
    "coding: utf-7 +AAo-",
    "a\ntouch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned;",
    "a&touch pwned&",
    "a|touch pwned",
    "a'$(touch pwned)'b",
    'a"$(touch pwned)"b',
    "-c touch pwned",
    "{0.__class__}{shown}",
    "%(prog)s %s %PATH%",
    "\u202egnp.exe",
    "a\x1b]0;pwned\x07b",
    "a\x9b2Jb",
    "<script>pwned<!--",
]
"""Names that a file may have on Linux."""

SEQUENCES = [
    "\x1b]52;c;cHduZWQ=\x07",
    "\x1b]52;c;cHduZWQ=\x1b\\",
    "\x1b]0;pwned\x07",
    "\x1b]2;pwned\x1b\\",
    "\x1b]8;;https://evil.example\x1b\\text\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1bc",
    "\x1b[1A\x1b[2K",
    "\x1b[?1049h",
    "\x1b[6n",
    "\x1b[>c",
    "\x1b[5i",
    "\x1bP$q\x1b\\",
    "\x1b_Gf=100;\x1b\\",
    "\x1b^pm\x1b\\",
    "\x1b(0",
    "\x1b#8",
    "\x1b[20;30H",
    "\x1b[31",
    "\x1b",
    "\x9b2J",
    "\x9d52;c;cHduZWQ=\x9c",
    "\x90q\x9c",
    "secret\rpublic",
    "secret\b\b\b\b\b\bpublic",
    "\x07\x0e\x0f\x7f",
    "\x0b\x0c",
    "\x1b[8mhidden\x1b[0m",
    "\x1b[0;08mhidden",
    "\u202egnp.exe\u2066",
    "\u2028\u2029\ufeff",
    "\udc9b",
]
"""What a terminal would obey, or what hides text in it."""

MARKUP = [
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>window.pwned=1//",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "' onmouseover='window.pwned=1",
    "[x](javascript:window.pwned=1)",
    "</textarea></style></title><script>window.pwned=1</script>",
    "`</code><img src=x onerror=window.pwned=1>`",
    "$\\href{javascript:window.pwned=1}{x}$",
    "|x|\n|-|\n<iframe srcdoc='<script>top.pwned=1</script>'>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
]

FORMULAS = [
    "=1+1",
    '=HYPERLINK("https://evil.example","x")',
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "\uff1d1+1",
]

COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def commands(text: str) -> list[str]:
    """What of a text a terminal obeys, but for colours."""
    return COMMANDS.findall(COLOUR.sub("", text))


def pwned(folder: Path) -> list[Path]:
    """Files that a payload has made."""
    return [path for path in folder.rglob("*") if path.name == "pwned"]


# --- generated files ----------------------------------------------------------------------------


@pytest.fixture
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A project and its flow, of one of `NAMES`."""
    root = tmp_path / "p"
    (root / "flow").mkdir(parents=True)
    flow = root / "flow" / f"{request.param}.py"
    flow.write_text('# %% tags=["parameters"]\nconfig = {"x": 1}\n\n# %%\nprint(x)\n')
    return root, flow


def run_in(folder: Path, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    known = {name: value for name, value in os.environ.items() if name != "DUCTAFLOW_ROOT"}
    return subprocess.run(
        list(map(str, words)), cwd=folder, env={**known, "PYTHONUTF8": "1", **env},
        capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=120,
    )  # fmt: skip


@requires_posix
@pytest.mark.parametrize("hostile", NAMES, indirect=True, ids=ascii)
def test_scripts_made_of_a_flow_do_not_run_its_name(hostile, tmp_path):
    root, flow = hostile
    standalone = create_standalone_python_script(flow, root=root)
    run_script = create_flow_run_script(flow, root=root)
    for script in (standalone, run_script):
        text = script.read_text("utf-8")
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
        assert not [c for c in calls if ast.unparse(c) == ast.unparse(ast.parse(PYTHON))]
        assert not [n for n in jupytext.reads(text, "py").cells if n.source == PYTHON]
        assert not [line for line in text.splitlines() if line.startswith("open(")]
    done = run_in(tmp_path / "here", sys.executable, standalone, "--output-dir", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    if "%(prog)" not in flow.name:  # which argparse fills in
        assert run_in(tmp_path / "here", sys.executable, run_script, "--help").returncode == 0
    assert pwned(tmp_path) == []


@requires_posix
@pytest.mark.parametrize("hostile", NAMES, indirect=True, ids=ascii)
def test_runners_hand_on_the_name_and_run_nothing_else(hostile, tmp_path, monkeypatch):
    root, flow = hostile
    python = tmp_path / "it's $(touch pwned) python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > args\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    if re.search(r'["\x00-\x1f\x7f]', flow.name):
        with pytest.raises(ConversionError, match="no batch file can hold; rename it"):
            create_flow_bat_runner(flow, root=root)
        assert sorted(flow.parent.iterdir()) == [flow]
        return
    bat = create_flow_bat_runner(flow, root=root)
    here = tmp_path / "here"
    for runner in (bat.with_suffix(".sh"), bat.with_suffix(".command")):
        assert run_in(here, "sh", runner, "--help").returncode == 0
        given = (here / "args").read_text("utf-8").split("\0")
        assert given == ["-m", "ductaflow.convert.temporary", str(flow), "--help", ""]
    assert pwned(tmp_path) == []
    for line in bat.read_bytes().decode().split("\r\n"):
        unquoted = "" if line.startswith("rem ") else re.sub('"[^"]*"', "", line)
        assert not re.search("touch|pwned|exe", unquoted)
        assert "%PATH%" not in line.replace("%%", "")


def test_a_batch_file_names_itself_in_quotes(project):
    bat = create_flow_bat_runner(project.write("f&calc"), root=project.root)
    assert 'echo "run_f&calc.bat" ended with exit code %CODE% 1>&2' in bat.read_text("utf-8")


@requires_posix
def test_a_runner_really_runs_a_flow_of_a_hostile_name(project):
    flow = project.write("it's $(touch pwned);`touch pwned` & %PATH%", "print('really')")
    bat = create_flow_bat_runner(flow, root=project.root)
    done = run_in(project.root, "sh", bat.with_suffix(".sh"))
    assert (done.returncode, done.stdout) == (0, "really\n"), done.stderr
    assert pwned(project.root) == []


@requires_posix
@pytest.mark.parametrize("text", NAMES + MARKUP, ids=ascii)
def test_vs_code_gets_a_path_as_it_is(project, text):
    folder = project.root / "runs" / "f" / text.replace("/", "_")
    try:
        debug_flow(project.write("f"), folder, {}, root=project.root)
    except DuctaflowError:
        assert not (project.root / ".vscode").exists()
        return
    (launch,) = json.loads((project.root / ".vscode/launch.json").read_text())["configurations"]
    assert launch["program"] == str(folder / "f_debug.py")
    assert pwned(project.root) == []


@pytest.mark.parametrize("name", ["${command:x}", "${env:HOME}", "a${input:y}b"])
def test_vs_code_gets_no_variable_of_its_own(project, name):
    flow = project.write("f")
    with pytest.raises(ConversionError, match="which VS Code would take for a variable"):
        debug_flow(flow, project.root / name / "a", {}, root=project.root)
    assert sorted(project.root.iterdir()) == [project.root / "flow"]


@requires_posix
@pytest.mark.parametrize(
    "name",
    [
        "$(touch pwned)",
        "`touch pwned`",
        "a;touch pwned",
        "a&touch pwned",
        "it's",
        f"a\u2028{PYTHON}",
    ],
)
def test_a_new_project_does_not_run_its_name(tmp_path, name):
    new = make_new_ductaflow_instance(name, tmp_path, vendor=False)
    plain = make_new_ductaflow_instance("plain", tmp_path, vendor=False)
    code = [
        [c.source for c in jupytext.read(p / f"cnd_{p.name}.py").cells if c.cell_type == "code"]
        for p in (new, plain)
    ]
    assert code[0] == code[1]
    (line,) = re.findall(r"^python .*cnd_.*", (new / "README.md").read_text("utf-8"), re.MULTILINE)
    done = run_in(tmp_path / "here", "sh", "-c", f"python() {{ printf '%s' \"$*\"; }}\n{line}")
    assert done.stdout == visible(f"cnd_{name}.py")
    assert pwned(tmp_path) == []


# --- where things lie ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *NAMES,
        *SEQUENCES,
        "..",
        "../x",
        "a/../../b",
        "..\\x",
        "/etc",
        "C:x",
        "~/x",
        "\0",
        ".git",
        "",
    ],
    ids=ascii,
)
def test_no_name_leads_out_of_its_folder(tmp_path, name):
    for step, instance in ((name, "a"), ("s", name)):
        try:
            folder = instance_dir(tmp_path, step, instance)
        except NameRefused:
            continue
        assert Path(os.path.normpath(folder)).parent.parent == tmp_path / "runs"
        assert len(folder.relative_to(tmp_path).parts) == 3


LEAVING = ["..", "../x", "a/../../x", ".", "\0", "..\\x"]
ENCODED = [
    "%2e%2e", "%2e%2e%2f", "%2E%2E%2Fx", ".%2e", "a%2f..%2f..%2fx", "%252e%252e", "%5c..%5cx",
    "%00", "x%2f%2e%2e%2f%2e%2e", "%2e", "%c0%ae%00",
]  # fmt: skip


@pytest.fixture
def delivered(project: Project) -> Run:
    """A run whose config has all values that might lead out of a root, and halves of some."""
    values = {f"v{n}": text for n, text in enumerate([*LEAVING, *ENCODED])}
    project.write("f", "open('x.txt', 'w').write('x')")
    return project.run("f", {**values, "p": "%2", "q": "e%2e", "r": "a%20b"}, html=False)


def test_an_export_stays_in_its_root(project, delivered, tmp_path_factory):
    fsspec = pytest.importorskip("fsspec")
    place = tmp_path_factory.mktemp("place")
    out = place / "out"
    roots = {
        "local": str(out),
        "url": out.as_uri(),
        "fsspec": f"local://{out}",
        "memory": "memory://o/out",
    }
    every = [f"{{v{n}}}" for n in range(len(LEAVING + ENCODED))]
    for kind, root in roots.items():
        for field in [*every, "{p}{q}"]:
            text = field.format(**delivered.config)
            leaving = field in every[: len(LEAVING)] or kind != "local"
            for end in ("", "/{instance}"):
                if leaving:
                    with pytest.raises(ExportError, match=r"out of its root|no path can hold"):
                        export(delivered, f"{root}/{field}{end}")
                else:
                    export(delivered, f"{root}/{field}{end}")
                    assert (out / text).is_dir()
    assert sorted(path.name for path in place.iterdir()) == ["out"]
    assert fsspec.filesystem("memory").find("/") == []
    (decoded,) = export(delivered, f"{out.as_uri()}/{{r}}")
    assert (out / "a b" / "x.txt").is_file(), decoded


def test_an_export_by_hand_to_no_path_is_told(project, delivered):
    for target in ("a\0b", "file:///tmp/a%00b", "memory://a/b%00"):
        with pytest.raises(ExportError, match="no path can hold a NUL"):
            export(delivered, target)


# --- terminals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", SEQUENCES, ids=ascii)
def test_a_terminal_is_not_commanded(sequence, capsys):
    for text in (sequence, f"a{sequence}b", f"\x1b[31m{sequence}\x1b[0m\nnext"):
        shown = harmless(text)
        assert commands(shown) == []
        assert not re.search(r"\[(0;)?0?8m", "".join(COLOUR.findall(shown)))
        assert shown.count("\n") == text.count("\n")
        assert commands(one_line(text)) == []
        assert "\n" not in one_line(text)
        bar = r"\x1b\[[0-2]?K|\x1b\[\d{0,3}A|[\r\b]"
        assert commands(re.sub(bar, "", harmless(text, live=True))) == []
        dump({"text": text})
        printed = capsys.readouterr().out
        assert commands(printed) == []
        assert json.loads(printed) == {"text": text}


@pytest.mark.parametrize(
    "text",
    ["", "plain", "é 数 👩\u200d🔬", "a\tb\nc", "\x1b[1;31mred\x1b[0m", "\x1b[38;5;8mgrey\x1b[m",
     "\x1b[38;2;8;8;8mgrey", "\x1b[38:5:8mgrey"],
)  # fmt: skip
def test_colours_and_plain_text_stay(text):
    assert harmless(text) == text


def test_what_would_command_is_shown():
    assert harmless("a\x1b]52;c;x\x07b\r\nc\rd\x9b2J") == "a␛]52;c;x␇b\nc␍d\\x9b2J"
    assert harmless("\x1b[8mx") == "␛[8mx"
    assert one_line("\x1b[31ma\x1b[0m\n\tb\x1b[2J") == "a  b␛[2J"


FLOW = """\
import sys
print(text)
print(text, file=sys.stderr)
display(text)
{"text": text}
"""


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a failed run that holds every sequence, in keys and values and all it says."""
    project = Project(tmp_path_factory.mktemp("evil"))
    (project.root / "flow").mkdir()
    evil = "x".join(s for s in SEQUENCES if s != "\udc9b")
    config = {"text": evil, "keys": {text: text for text in evil.split("x")}}
    project.write("f", FLOW, "from ductaflow import record\nrecord(kind=text)",
                  "class Evil(Exception): pass\nEvil.__name__ = text\nraise Evil(text)",
                  parameters='config = {"text": "", "keys": {}}')  # fmt: skip
    with pytest.raises(RunFailed):
        run_step_flow("f", "f", "a", config, root=project.root, html=False)
    return project


@pytest.mark.parametrize(
    "command",
    [
        ["show", "f/a"], ["log", "f/a"], ["log", "-f", "f/a"], ["ls"],
        ["ls", "--where", "status=failed"], ["status"], ["explain", "f/a"], ["lineage", "f/a"],
        ["rerun", "f/a"], ["rerun", "f/a", "--json"],
        ["show", "f/a", "--json"], ["ls", "--json"], ["show", "no\x1b]0;x\x07"], ["\x1b]0;x\x07"],
        ["ls", "--where", "\x1b]0;x\x07=1"], ["ls", "--\x1b[2J"], ["run", "f", "-i", "b\x1b[2J"],
        ["run", "f", "-p", 'text="\\u001b]0;x\\u0007"', "--echo"],
        ["sweep", "f", "--grid", "text=\x1b]0;x\x07,b"], ["inspect", "f"], ["verify", "f/a"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_print_no_command_for_a_terminal(evil, capsys, monkeypatch, command):
    monkeypatch.chdir(evil.root)
    main(command)
    printed = capsys.readouterr()
    assert printed.out + printed.err
    assert commands(printed.out) == []
    assert commands(printed.err) == []


def test_a_run_script_prints_no_command_for_a_terminal(evil):
    script = create_flow_run_script("f", root=evil.root)
    text = "\x1b]0;x\x07 \x1b[31mred\x1b[0m"
    done = subprocess.run(
        [sys.executable, script, "--instance", "of-script", "-p", f"text={json.dumps(text)}"],
        capture_output=True, encoding="utf-8", cwd=evil.root, timeout=300, check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "␛]0;x␇ \x1b[31mred\x1b[0m" in done.stderr
    assert commands(done.stderr) == commands(done.stdout) == []


@requires_posix
@pytest.mark.parametrize(
    "command",
    [["show", "f/a"], ["log", "f/a"], ["ls"], ["rerun", "f/a"], ["run", "f", "--root", "."]],
    ids=" ".join,
)  # fmt: skip
def test_a_real_terminal_gets_colours_and_our_own_line_only(evil, command):
    import pty

    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "ductaflow.cli", *command], cwd=evil.root,
        stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
    )  # fmt: skip
    os.close(follower)
    printed = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        printed += part
    os.close(leader)
    child.wait(60)
    text = printed.decode()
    assert not re.search("secret\r(?!\n)", text)
    text = re.sub(r"\r|\x1b\[K", "", text)  # our own line of progress
    assert "␛" in text or command[0] == "run"
    assert commands(text) == []


def test_an_error_of_no_kind_of_ours_does_not_command_either(tmp_path):
    done = run_in(
        tmp_path, sys.executable, "-c",
        "import sys, ductaflow.cli.main as m\n"
        "def fail(*a, **k): raise RuntimeError('\\x1b]0;x\\x07')\n"
        "m.group.main = fail\nsys.argv = ['ductaflow']\nm.main()",
    )  # fmt: skip
    assert done.returncode == 1
    assert "RuntimeError: ␛]0;x␇" in done.stderr
    assert commands(done.stderr) == []


def test_what_a_flow_prints_live_keeps_its_progress_bar(capsys):
    Echo().stream("stdout", "\r10 %\r20 %\x1b[K\x1b]0;x\x07\n")
    assert capsys.readouterr().out == "\r10 %\r20 %\x1b[K␛]0;x␇\n"


# --- pages --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Runs that hold markup and formulas in all that they say, and the page about them."""
    project = Project(tmp_path_factory.mktemp("marked"))
    (project.root / "flow").mkdir()
    project.write("f", FLOW, "from ductaflow import record\nrecord(kind=text)",
                  "if fails:\n    raise ValueError(text)",
                  parameters='config = {"text": "", "fails": False}')  # fmt: skip
    texts = [*MARKUP, *FORMULAS, "-5", "1e3", "plain"]
    rows = [
        {"instance": f"i{n:02}", "text": text, "fails": n == 0, MARKUP[0]: text, "=1+1": -n}
        for n, text in enumerate(texts)
    ]
    sweep("f", rows, instance="{instance}", root=project.root, workers=2, progress=False)
    collate("f", root=project.root)
    return project


@pytest.mark.browser
@pytest.mark.parametrize("number", range(len(MARKUP)))
def test_a_report_runs_no_value(marked, visit, number):  # noqa: F811
    page = visit(marked.root / "runs" / "f" / f"i{number:02}" / "f.html").page
    assert wait_until(lambda: page.evaluate("document.readyState") == "complete")
    assert page.evaluate("window.pwned") is None
    assert page.locator("a[href^='javascript:']").count() == 0


@pytest.mark.browser
def test_the_page_about_runs_runs_no_value(marked, visit):  # noqa: F811
    page = visit(marked.root / "runs" / "index.html").page
    page.wait_for_selector(".tabulator-row")
    assert page.evaluate("window.pwned") is None
    assert page.locator("a[href^='javascript:']").count() == 0


@pytest.mark.browser
def test_a_spreadsheet_computes_nothing_of_a_csv(marked, visit, tmp_path):  # noqa: F811
    page = visit(marked.root / "runs" / "index.html").page
    page.wait_for_selector(".tabulator-row")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    waiting.value.save_as(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    assert "'=1+1" in head
    cells = [cell for row in rows for cell in row]
    for formula in FORMULAS:
        assert f"'{formula}" in cells, formula
        assert formula not in cells
    assert {str(-n) for n in range(1, len(rows))} <= set(cells)  # numbers stay numbers
    assert "1e3" in cells


def test_a_pipe_has_a_line_for_each_run_and_no_formula(project, capsys):
    evil = '"=1+1\\tx\\n=2+2\\x1b[31mred"'
    project.write("f", f"class Evil(Exception): pass\nEvil.__name__ = {evil}\nraise Evil('=3')")
    for instance in ("+1+1", "-5", "plain"):
        with pytest.raises(RunFailed):
            run_step_flow("f", "f", instance, {})
    capsys.readouterr()
    assert main(["ls"]) == 0
    head, *rows = [line.split("\t") for line in capsys.readouterr().out[:-1].split("\n")]
    assert {len(row) for row in rows} == {len(head)}
    assert [row[1] for row in rows] == ["'+1+1", "-5", "plain"]  # a number stays one
    assert {row[5] for row in rows} == {r"'=1+1\tx\n=2+2\x1b[31mred: =3"}


def test_show_has_a_line_for_each_value(project, capsys):
    values = {"line": "a\nb\r\n  fake  1", "tab\tkey\n": "\x1b[2J", "plain": "a b", "list": ["\n"]}
    project.write("f", "from ductaflow import record\nrecord(of=config['line'])")
    project.run("f", values)
    capsys.readouterr()
    assert main(["show", "f/a"]) == 0
    told = capsys.readouterr().out
    config = told.partition("\nconfig\n")[2].partition("\n\n")[0].split("\n")
    assert [re.split("  +", line.strip(), maxsplit=1) for line in config] == [
        ["line", r"a\nb\r\n  fake  1"],
        [r"tab\tkey\n", r"\x1b[2J"],
        ["plain", "a b"],
        ["list", r"['\n']"],
    ]
    assert told.partition("\nmetrics\n")[2].partition("\n\n")[0] == r"  of  a\nb\r\n  fake  1"


@pytest.mark.browser
def test_a_page_that_follows_a_sweep_runs_no_value(project, visit):  # noqa: F811
    """Neither what is there when it is opened nor what comes while it is open."""
    gate = project.root / "gate"
    project.write(
        "f",
        f"from pathlib import Path\nimport time\nwhile n and not Path({str(gate)!r}).exists():\n"
        "    time.sleep(0.02)",
        FLOW,
        "from ductaflow import record\nrecord(kind=text)",
        "if n % 3 == 2:\n    raise ValueError(text)",
        parameters='config = {"text": "", "n": 0}',
    )
    texts = [*MARKUP, *FORMULAS]
    rows = [{"instance": f"i{n:02}", "text": t, "n": n, MARKUP[0]: t} for n, t in enumerate(texts)]
    path = project.root / "runs" / "watch" / "index.html"
    options = {"workers": 1, "progress": False, "live": "runs/watch", "root": project.root}
    thread = threading.Thread(target=sweep, args=("f", rows), kwargs=options)
    thread.start()
    try:
        status = path.parent / "index_files/status.js"
        assert wait_until(lambda: path.exists() and status.exists())
        page = visit(path).page
        page.locator(".tabulator-row .light.running").first.wait_for()
        gate.touch()
        page.locator(".live", has_text="finished").wait_for()
        page.locator("#tab-failures").click()
        page.locator(".cause").first.wait_for()
        assert page.evaluate("window.pwned") is None
        assert page.locator("a[href^='javascript:'], iframe, [onerror], [onload]").count() == 0
    finally:
        gate.touch()
        thread.join()


@pytest.mark.browser
def test_the_page_of_how_runs_went_runs_no_value(marked, visit):  # noqa: F811
    told = [{"instance": t, "status": "failed", "error": t, "duration": 1} for t in MARKUP]
    runs = [*get_all_instances("f", status=None, root=marked.root)]
    path = marked.root / "runs" / "status.html"
    path.write_text(generate_status_report([*runs, *told], marked.root / "runs"), "utf-8")
    page = visit(path).page
    for summary in page.locator("summary").all():
        summary.click()
    text = page.locator("body").inner_text()
    assert all(markup.split("\n")[0] in text for markup in MARKUP)
    assert page.evaluate("window.pwned") is None
    harm = "[href^='javascript:'], script, iframe, svg, img, [onmouseover]"
    assert page.locator(harm).count() == 0
    assert page.locator("details").count() == len(runs) + len(told)
