"""The command `ductaflow`: every command's help, and a real use of each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from conftest import requires_posix, wait_until
from hypothesis import given
from hypothesis import strategies as st

from ductaflow.cli.main import COMMANDS, main
from ductaflow.cli.widths import fitted, shortened
from ductaflow.history.recordfile import read_record, write_record
from ductaflow.model.records import Status

MEASURE = """\
# %% tags=["parameters"]
config = {"x": 1, "part": {"y": 2}}

# %%
from ductaflow import record

print("measuring", x)
open("out.txt", "w").write(str(x * y))
record(product=x * y)

# %%
if x < 0:
    raise ValueError("negative")
"""


@attrs.frozen
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


Do = Callable[..., Said]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three runs of one step, one of which failed."""
    root = tmp_path_factory.mktemp("home")
    (root / "flow").mkdir()
    (root / "flow" / "measure.py").write_text(MEASURE, "utf-8")
    table = root / "table.csv"
    table.write_text("instance_name,x,part.y\na,3,4\nb,5,6\nbad,-1,1\n")
    assert main(["sweep", "measure", "-t", str(table), "--root", str(root)]) == 1
    return root


@pytest.fixture
def do(home: Path, capsys: pytest.CaptureFixture[str]) -> Do:
    """Run a command in this process, on that project."""

    def run(*args: object, root: Path | None = home) -> Said:
        capsys.readouterr()
        where = [] if root is None else ["--root", str(root)]
        code = main([*map(str, args), *where])
        return Said(code, *capsys.readouterr())

    return run


def command(*args: object, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    env = {n: v for n, v in os.environ.items() if n not in ("DUCTAFLOW_ROOT", "NO_COLOR")}
    options["env"] = {**env, "PYTHONUTF8": "1", **options.get("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(
        [sys.executable, "-m", "ductaflow.cli", *map(str, args)],
        cwd=cwd, encoding="utf-8", start_new_session=True, **options,
    )  # fmt: skip


# --- help, and how it begins --------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(do, name):
    said = do(name, "--help", root=None)
    assert said.code == 0
    assert f"Usage: ductaflow {name} " in said.out
    assert said.out.count("\n") > 6


def test_the_help_lists_them_all_and_says_what_exit_codes_mean(do):
    said = do("--help", root=None)
    listed = [line.split()[0] for line in said.out.partition("Commands:")[2].splitlines()[1:-3]]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    assert "Exit codes: 0" in said.out
    files = Path(main.__code__.co_filename).parent.glob("*_command.py")
    assert {file.name.removesuffix("_command.py") for file in files} == set(COMMANDS)


def test_the_help_imports_next_to_nothing():
    code = (
        "import sys; from ductaflow.cli.main import main; main(['--help']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "attr",
        "yaml",
        "rich",
        "jupytext",
        "zmq",
        "IPython",
        "pandas",
        "ductaflow.model.records",
    }
    assert not heavy & set(done.stderr.split())


def test_the_console_script_is_there():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="ductaflow")
    assert script.load() is main


def test_version(do):
    import ductaflow

    assert do("--version", root=None).out == f"ductaflow, version {ductaflow.__version__}\n"


# --- running ------------------------------------------------------------------------------------


def test_run(do, home):
    said = do("run", "measure", "-i", "one", "-p", "x=7", "-p", "part.y=0x10")
    assert said.code == 0
    assert "✓ succeeded measure/one in" in said.out
    folder = home / "runs" / "measure" / "one"
    assert (folder / "out.txt").read_text() == "112"
    assert str(folder / "measure.html") in said.out


def test_run_with_a_config_file_and_options(do, home, tmp_path):
    config = tmp_path / "c.yml"
    config.write_text("x: 8\npart: {y: 1}\n")
    said = do(
        "run", "flow/measure.py", "--step", "other", "-c", config, "-p", "part.y=2", "--no-html",
        "--timeout", 60, "--json",
    )  # fmt: skip
    assert said.code == 0
    assert said.data["status"] == "success"
    assert said.data["metrics"] == {"product": 16}
    folder = home / "runs" / "other" / "default"
    assert said.data["dir"] == str(folder)
    assert not (folder / "measure.html").exists()
    assert do("clean", "other/default", "--yes").code == 0


def test_a_failed_run_is_exit_code_1(do):
    said = do("run", "measure", "-i", "failed", "-p", "x=-1", "--json")
    assert said.code == 1
    assert said.data["status"] == "failed"
    assert said.data["error"] == "ValueError: negative"
    assert "flow/measure.py:13" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "mesure"], "did you mean flow/measure.py?"),
        (["run", "measure", "-p", "x"], "-p 'x' is no assignment"),
        (["run", "measure", "-p", "x=1", "-p", "x.y=1"], "the config's x is 1, which has no keys"),
        (["run", "measure", "-p", "x=[1"], "is no YAML value"),
        (["run", "measure", "-c", "none.json"], "cannot read the config none.json"),
        (["run", "measure", "-i", "a/b"], "has a path separator"),
        (["run", "measure", "--kernel", "nonesuch"], "no kernelspec is named 'nonesuch'"),
        (["run", "measure", "--timeout", "long"], "Invalid value for '--timeout'"),
        (["run"], "Missing argument 'FLOW'"),
        (["rum", "measure"], "No such command 'rum'. Did you mean 'run'?"),
        (["sweep", "measure"], "give either --table FILE or --grid"),
        (["sweep", "measure", "-g", "x"], "--grid 'x' is no axis"),
        (["sweep", "measure", "-t", "none.csv"], "there is no control table"),
        (["show", "aa"], "did you mean 'a'?"),
        (["show", "nothing like it"], "there is no run 'nothing like it'"),
        (["ls", "--where", "x"], "--where 'x' is no condition"),
        (["ls", "--where", "statu=failed"], "no run has 'statu'; did you mean 'status'?"),
        (["ls", "measure", "--where", "part.z>1"], "no run has 'part.z'; did you mean 'part.y'?"),
        (["rerun"], "name the instances, or give --failed"),
        (["export", "out/{nonesuch}"], "{nonesuch}"),
        (["standalone", "nonesuch"], "there is no such flow file"),
        (["new", "a/b", "--target", "."], "the project name 'a/b'"),
    ],
)
def test_what_is_wrong_is_exit_code_2(do, args, message):
    said = do(*args, root=None) if args[0] == "new" else do(*args)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err


def test_settings_that_are_wrong_are_exit_code_2(do, tmp_path):
    (tmp_path / "ductaflow.toml").write_text("worker = 1")
    said = do("run", "x", root=tmp_path)
    assert said.code == 2
    assert "did you mean 'workers'?" in said.err


def test_sweep_of_a_grid(do, home):
    said = do("sweep", "measure", "-g", "x=1,2", "-g", "part.y=3,4", "--step", "grid", "-w", 2)
    assert said.code == 0
    assert "4 runs: ✓ 4 succeeded" in said.out
    names = sorted(folder.name for folder in (home / "runs" / "grid").iterdir() if folder.is_dir())
    assert len(names) == 4
    outs = {(home / "runs" / "grid" / name / "out.txt").read_text() for name in names}
    assert outs == {"3", "4", "6", "8"}


def test_sweep_over_a_base_config(do, home, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("name,x,part.y\np,10,\nq,,5\n")
    said = do(
        "sweep", "measure", "-t", table, "-i", "name", "-p", "x=100", "-p", "part.y=7",
        "--step", "based", "--json",
    )  # fmt: skip
    assert said.code == 0
    assert [(run["instance"], run["metrics"]["product"]) for run in said.data] == [
        ("p", 70), ("q", 500),
    ]  # fmt: skip


def test_sweep_goes_over_the_flows_default(do, home, tmp_path):
    said = do("sweep", "measure", "-g", "x=5,6", "--step", "over", "--json")
    assert said.code == 0
    assert [(run["instance"], run["metrics"]["product"]) for run in said.data] == [
        ("x=5", 10), ("x=6", 12),
    ]  # fmt: skip
    table = tmp_path / "unnamed.csv"
    table.write_text("x,part.y\n7,\n8,3\n")
    said = do("sweep", "measure", "-t", table, "--step", "over", "--json")
    assert [(run["instance"], run["metrics"]["product"]) for run in said.data] == [
        ("x=7", 14), ("x=8,y=3", 24),
    ]  # fmt: skip


def test_sweep_dry_run(do, home):
    said = do("sweep", "measure", "-g", "x=1,2", "--step", "dry", "-n")
    assert said.code == 0
    assert said.out.count("would run") == 2
    assert not (home / "runs" / "dry").exists()


# --- looking ------------------------------------------------------------------------------------


def test_ls_in_a_pipe(do):
    said = do("ls", "measure", "--where", "instance~[ab]*")
    assert said.rows[0] == ["step", "instance", "status", "seconds", "started", "error"]
    assert [row[:3] for row in said.rows[1:]] == [
        ["measure", "a", "succeeded"],
        ["measure", "b", "succeeded"],
        ["measure", "bad", "failed"],
    ]
    assert said.rows[3][5] == "ValueError: negative"
    assert "\x1b" not in said.out


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["status=failed"], ["bad"]),
        (["status!=failed"], ["a", "b"]),
        (["x>3"], ["b"]),
        (["x>=3", "part.y<6"], ["a"]),
        (["y = 4"], ["a"]),
        (["product<=12"], ["a", "bad"]),
        (["error=ValueError"], ["bad"]),
        (["duration>=0", "instance~b*"], ["b", "bad"]),
        (["x>word"], []),
    ],
)
def test_ls_where(do, conditions, names):
    wheres = [word for text in conditions for word in ("--where", text)]
    said = do("ls", "measure", "--where", "instance~[ab]*", *wheres, "--json")
    assert [run["instance"] for run in said.data] == names


def test_status(do):
    said = do("status", "--step", "measure", "--json")
    assert set(said.data["steps"]["measure"]) == {"success", "failed"}
    assert said.data["running"] == []
    text = do("status")
    assert text.rows[0][:2] == ["step", "succeeded"]


def test_status_of_nothing(do, tmp_path):
    assert do("status", root=tmp_path).out == f"No run in {tmp_path} yet.\n"


def test_show(do, home):
    said = do("show", "measure/a")
    assert "✓ succeeded measure/a" in said.out
    assert "part.y  4" in said.out
    assert "product  12" in said.out
    assert "cell 2, line 5   ok," in said.out
    as_json = do("show", home / "runs" / "measure" / "a", "--json").data
    assert as_json["config"] == {"x": 3, "part": {"y": 4}}
    assert as_json["record"]["status"] == "success"
    failed = do("show", "bad").out
    assert "ValueError: negative (flow/measure.py:13)" in failed


def test_an_instances_name_of_two_steps_is_ambiguous(do):
    do("run", "measure", "-i", "a", "--step", "twin")
    said = do("show", "a")
    assert said.code == 2
    assert "measure/a, twin/a" in said.err
    assert do("clean", "twin/a", "-y").code == 0


def test_log(do):
    said = do("log", "measure/b")
    assert "stdout    measuring 5\n" in said.out


# --- doing again, delivering, cleaning ----------------------------------------------------------


def test_rerun_failed(do, home):
    flow = home / "flow" / "measure.py"
    flow.write_text(MEASURE.replace("if x < 0", "if x < -1"), "utf-8")
    try:
        said = do("rerun", "--failed", "--step", "measure")
        assert said.code == 0
        assert "1 of 1 succeeded." in said.out or "2 of 2 succeeded." in said.out
        assert (
            do("rerun", "--failed", "--step", "measure").out == "There is nothing to run again.\n"
        )
    finally:
        flow.write_text(MEASURE, "utf-8")
    said = do("rerun", "measure/bad", "--json")
    assert said.code == 1
    assert [run["status"] for run in said.data] == ["failed"]


def test_export(do, home, tmp_path):
    template = f"{tmp_path}/out/{{x}}/{{instance}}"
    said = do("export", template, "measure/a", "measure/bad", "--files", "*.txt")
    assert said.code == 1
    assert said.err == "ductaflow: measure/bad is not delivered: failed\n"
    assert said.out == f"{tmp_path}/out/3/a: 1 copied, 0 unchanged, 0 removed\n"
    assert (tmp_path / "out" / "3" / "a" / "out.txt").read_text() == "12"
    again = do("export", template, "measure/a", "--files", "*.txt", "--json")
    assert again.code == 0
    assert again.data[0]["unchanged"] == ["out.txt"]


def test_script_standalone_runner(do, home, tmp_path):
    for name, made in {
        "script": ["measure_run.py"],
        "standalone": ["measure_standalone.py"],
        "runner": ["run_measure.bat", "run_measure.sh", "run_measure.command"],
    }.items():
        said = do(name, "measure", "--out", tmp_path)
        assert said.code == 0, said.err
        assert said.out.splitlines() == [str(tmp_path / file) for file in made]
        assert all((tmp_path / file).is_file() for file in made)
    (tmp_path / "measure_run.py").write_text("mine")
    refused = do("script", "measure", "--out", tmp_path)
    assert refused.code == 2
    assert "--force" in refused.err
    assert do("script", "measure", "--out", tmp_path, "--force").code == 0


def test_debug(do, home):
    said = do("debug", "measure/bad")
    assert said.code == 0
    folder = home / "runs" / "measure" / "bad"
    assert (folder / "measure_debug.py").is_file()
    assert (folder / "measure_debug.ipynb").is_file()
    assert "ductaflow: measure/bad" in said.out


def test_clean_removes_only_what_ductaflow_wrote(do, home):
    do("run", "measure", "-i", "dirty", "--step", "dusty")
    folder = home / "runs" / "dusty" / "dirty"
    (folder / "deep").mkdir()
    (folder / "deep" / "mine.csv").write_text("mine")
    (folder / ".measure.ipynb.0123456789ab.tmp").write_text("left by a crash")
    (home / "runs" / "dusty" / "foreign").mkdir()
    (home / "runs" / "dusty" / "foreign" / "measure.html").write_text("no run of ours")
    before = sorted(home.rglob("*"))
    told = do("clean", "--step", "dusty", "--dry-run")
    assert told.code == 0
    assert str(folder / "run.json") in told.out
    assert "mine.csv" not in told.out
    assert "foreign" not in told.out
    assert sorted(home.rglob("*")) == before
    assert do("clean", "--step", "dusty", "--failed").out == "There is nothing to remove.\n"
    said = do("clean", "--step", "dusty", "--yes", "--json")
    assert sorted(said.data) == sorted(told.out.splitlines())
    left = sorted(str(p.relative_to(home / "runs/dusty")) for p in (home / "runs/dusty").rglob("*"))
    assert left == ["dirty", "dirty/deep", "dirty/deep/mine.csv", "dirty/out.txt", "foreign",
                    "foreign/measure.html"]  # fmt: skip


def test_clean_asks(do, home, monkeypatch):
    do("run", "measure", "-i", "asked", "--step", "asking", "--no-html")
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        said = do("clean", "asking/asked")
    assert said.code == 1
    assert "nothing was done" in said.err
    folder = home / "runs" / "asking" / "asked"
    assert (folder / "run.json").exists()
    (folder / "out.txt").unlink()
    assert do("clean", "asking/asked", "-y").code == 0
    assert not folder.exists()
    assert not folder.parent.exists()


# --- making and checking ------------------------------------------------------------------------


def test_new(do, tmp_path):
    said = do("new", "fresh", "--target", tmp_path, "--no-vendor", root=None)
    assert said.code == 0
    assert (tmp_path / "fresh" / "cnd_fresh.py").is_file()
    assert f"cd {tmp_path / 'fresh'}" in said.out
    again = do("new", "fresh", "--target", tmp_path, root=None)
    assert again.code == 2
    assert "already there" in again.err


def test_doctor(do):
    said = do("doctor", "--json")
    checks = {check["what"]: check for check in said.data}
    assert said.code == 0, said.data
    assert checks["Python"]["found"].endswith(sys.executable)
    assert checks["project"]["found"].endswith("1 flows")
    assert checks["a kernel"]["verdict"] == "ok"
    assert checks["runs"]["verdict"] == "ok"
    text = do("doctor")
    assert "✓ Python: " in text.out


def test_doctor_says_what_is_wrong_and_what_to_do(do, tmp_path, monkeypatch):
    (tmp_path / "ductaflow.toml").write_text("timeout = 'long'")
    said = do("doctor", root=tmp_path)
    assert said.code == 1
    assert "✗ settings: " in said.out
    assert "correct it" in said.out
    nowhere = do("doctor", root=tmp_path / "none")
    assert nowhere.code == 1
    assert "✗ project: " in nowhere.out


def test_doctor_finds_a_kernelspec_that_points_to_nothing(tmp_path):
    spec = tmp_path / "kernels" / "gone"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/nonexistent/python"], "display_name": "g", "language": "python"})
    )
    process = command("doctor", "--json", cwd=tmp_path, env={"JUPYTER_PATH": str(tmp_path)})
    out, _ = process.communicate(timeout=120)
    checks = {check["what"]: check for check in json.loads(out)}
    assert checks["kernelspec gone"]["verdict"] == "hint"
    assert "is not there" in checks["kernelspec gone"]["found"]
    assert "jupyter kernelspec remove gone" in checks["kernelspec gone"]["advice"]


def test_the_help_of_completion_has_a_line_for_each_shell(do):
    lines = [line.strip() for line in do("completion", "--help", root=None).out.splitlines()]
    assert """bash:  echo 'eval "$(ductaflow completion bash)"' >> ~/.bashrc""" in lines
    assert """zsh:   echo 'eval "$(ductaflow completion zsh)"' >> ~/.zshrc""" in lines
    assert any(line.startswith("fish:  ductaflow completion fish > ~/.config") for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_has_marks_of_its_source(do, name):
    assert "\\b" not in do(name, "--help", root=None).out


def test_completion(do, home):
    for shell in ("bash", "zsh", "fish"):
        said = do("completion", shell, root=None)
        assert said.code == 0
        assert "_DUCTAFLOW_COMPLETE" in said.out

    def completed(*words: str) -> list[str]:
        env = {"_DUCTAFLOW_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words)),
               "COMP_WORDS": " ".join(["ductaflow", *words])}  # fmt: skip
        out, _ = command(cwd=home, env=env).communicate(timeout=60)
        return [line.partition(",")[2] for line in out.splitlines()]

    assert "standalone" in completed("sta")
    assert completed("run", "") == ["flow/measure.py"]
    assert "measure/a" in completed("show", "measure/")
    assert "--timeout" in completed("run", "measure", "--")


# --- a terminal, a pipe, Ctrl-C -----------------------------------------------------------------


def on_a_terminal(folder: Path, *words: str, **env: str) -> str:
    """What a command shows on a terminal, on stdout."""
    import pty

    leader, follower = pty.openpty()
    env = {"TERM": "xterm-256color", **env}
    process = command(*words, cwd=folder, stdout=follower, env=env)
    os.close(follower)
    parts = []
    while True:
        try:
            data = os.read(leader, 1 << 16)
        except OSError:  # Linux says so when the other end is closed
            break
        if not data:
            break
        parts.append(data)
    process.communicate(timeout=60)
    os.close(leader)
    assert process.returncode == 0
    return b"".join(parts).decode()


@requires_posix
def test_on_a_terminal_there_is_a_table_in_colour(home):
    text = on_a_terminal(home, "ls", "measure", COLUMNS="120")
    assert "✓ succeeded" in text
    assert "✗ failed" in text
    assert "\x1b[38;" in text
    assert "───" in text


@requires_posix
@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_ls_fits_the_terminal_with_a_line_for_each_run(home, columns):
    long = ("-i", "L2_dwellings_am_2024_high_growth", "--step", "measure_with_quite_a_long_name")
    assert main(["run", "measure", *long, "--no-html", "--root", str(home)]) == 0
    text = on_a_terminal(home, "ls", COLUMNS=str(columns))
    _, head, rule, *lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert all(len(line.rstrip()) <= columns for line in (head, rule, *lines))
    rows = [line.split() for line in lines if line.strip()]
    assert len(rows) == len(list(home.glob("runs/*/*/run.json")))
    assert head.split()[:3] == ["step", "instance", "status"]
    step, instance = next(row[:2] for row in rows if row[0].startswith("meas") and "…" in row[0])
    assert step.startswith("meas")
    assert step.endswith("ame")
    assert instance.startswith("L2_")
    assert instance.endswith("wth")


@given(
    st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 200),
)
def test_columns_fit_where_they_can(columns, room):
    widths, flexible = [w for w, _ in columns], [f for _, f in columns]
    fits = fitted(widths, flexible, room)
    assert len(fits) == len(widths)
    for fit, width, can in zip(fits, widths, flexible, strict=True):
        assert fit in (0, width) or (can and 8 <= fit < width)
    assert sum(fits) <= room + 3 * fits.count(0) or not any(fits[2:])
    if sum(widths) <= room:
        assert fits == widths


@given(
    st.text(st.characters(exclude_categories=["C", "M", "Z"])), st.integers(1, 30), st.booleans()
)
def test_a_shortened_text_has_its_ends(text, width, middle):
    from rich.cells import cell_len

    short = shortened(text, width, middle=middle)
    assert cell_len(short) <= width
    if short != text:
        head, tail = short.split("…", 1) if text.count("…") == 0 else ("", "")
        assert text.startswith(head)
        assert text.endswith(tail)


@requires_posix
def test_a_pipe_that_closes_early_is_no_error(home):
    process = command("ls", cwd=home)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    process.wait(60)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "slow.py").write_text(
        '# %% tags=["parameters"]\nconfig = {"n": 1}\n# %%\nimport time\n'
        'print("began", flush=True)\nopen("began", "w")\ntime.sleep(120)\n'
    )
    return tmp_path


@requires_posix
def test_ctrl_c_saves_the_run_and_is_exit_code_130(slow):
    process = command("run", "slow", cwd=slow)
    folder = slow / "runs" / "slow" / "default"
    assert wait_until((folder / "began").exists)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "slow/default was interrupted; what it left is in" in err
    assert "Traceback" not in err
    record = read_record(folder / "run.json")
    assert record is not None
    assert record.status is Status.INTERRUPTED
    assert (folder / "slow.ipynb").is_file()


@requires_posix
def test_ctrl_c_ends_a_sweep_with_exit_code_130(slow):
    process = command("sweep", "slow", "-g", "n=1,2,3", "-w", "1", cwd=slow)
    assert wait_until(lambda: any(slow.glob("runs/slow/*/began")))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


@requires_posix
def test_a_run_that_goes_on_is_seen_followed_and_left_alone(slow, do):
    process = command("run", "slow", cwd=slow)
    folder = slow / "runs" / "slow" / "default"
    assert wait_until((folder / "began").exists)
    status = do("status", "--json", root=slow)
    assert status.data["steps"] == {"slow": {"running": 1}}
    assert status.data["running"][0]["label"] == "slow/default"
    assert "▶ slow/default for" in do("status", root=slow).out
    assert do("clean", "--yes", root=slow).out == "There is nothing to remove.\n"
    log = command("log", "-f", "default", cwd=slow)
    assert log.stdout is not None
    assert any("began" in line for line in iter(log.stdout.readline, ""))
    watch = command("status", "--watch", "--interval", "0.1", cwd=slow)
    assert watch.stdout is not None
    assert watch.stdout.readline() == "step\trunning\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    rest, _ = log.communicate(timeout=60)
    assert log.returncode == 0
    assert rest.splitlines()[-1].endswith("s")
    assert "interrupted in" in rest
    assert any("interrupted" in line for line in iter(watch.stdout.readline, ""))
    os.killpg(watch.pid, signal.SIGINT)
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == 0
    assert err == ""


@requires_posix
def test_a_run_whose_process_was_killed_is_dead(slow, do):
    process = command("run", "slow", cwd=slow)
    folder = slow / "runs" / "slow" / "default"
    assert wait_until((folder / "began").exists)
    process.kill()
    process.communicate(timeout=60)
    record = read_record(folder / "run.json")
    assert record is not None
    assert record.status is Status.RUNNING
    assert do("status", "--json", root=slow).data == {"steps": {"slow": {"died": 1}}, "running": []}
    (run,) = do("ls", "--json", root=slow).data
    assert run["error"].startswith(f"ConductorGone: process {process.pid}")
    assert do("log", "-f", "default", root=slow).code == 0
    # Its number may be somebody else's by now; nobody holds its lock.
    taken = attrs.evolve(record, conductor={**record.conductor, "pid": os.getpid()})
    write_record(folder / "run.json", taken)
    assert do("status", "--json", root=slow).data["running"] == []
    # Another machine's cannot be judged from here.
    away = attrs.evolve(record, conductor={"pid": 1, "host": "elsewhere"})
    write_record(folder / "run.json", away)
    assert len(do("status", "--json", root=slow).data["running"]) == 1
    # It can be run again, by a process that also sweeps up what the dead one left.
    write_record(folder / "run.json", record)
    flow = slow / "flow" / "slow.py"
    flow.write_text(flow.read_text("utf-8").replace("time.sleep(120)", "pass"), "utf-8")
    again = command("rerun", "--failed", cwd=slow)
    out, err = again.communicate(timeout=60)
    assert (again.returncode, out) == (0, "1 of 1 succeeded.\n"), err
    assert do("status", "--json", root=slow).data["steps"] == {"slow": {"success": 1}}


# --- what has changed ---------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A project of two runs, of which one reads what the other writes."""
    (tmp_path / "flow").mkdir()
    (tmp_path / "data.txt").write_text("1")
    parameters = '# %% tags=["parameters"]\nconfig = {}\n\n# %%\nfrom pathlib import Path\n'
    first = "Path('out.txt').write_text(Path('../../../data.txt').read_text())\n"
    second = "print(Path('../../first/a/out.txt').read_text())\n"
    (tmp_path / "flow" / "first.py").write_text(parameters + first, "utf-8")
    (tmp_path / "flow" / "second.py").write_text(parameters + second, "utf-8")
    for flow in ("first", "second"):
        assert main(["run", flow, "-i", "a", "--root", str(tmp_path)]) == 0
    return tmp_path


def test_explain(do, chain):
    assert "It would be reused." in do("explain", "first", "-i", "a", root=chain).out
    (chain / "data.txt").write_text("2")
    said = do("explain", "first", "-i", "a", "--json", root=chain)
    assert said.data["reuse"] is False
    assert [reason["message"] for reason in said.data["reasons"]] == ["data.txt changed"]
    assert "data.txt changed" in do("explain", "first", "-i", "a", root=chain).out


def test_update(do, chain):
    (chain / "data.txt").write_text("2")
    planned = do("update", "--dry-run", root=chain)
    assert planned.code == 0
    *_, counts, looked = planned.out.splitlines()
    assert counts == "2 of 2 would run again, 0 are up to date."
    assert re.fullmatch(r"Looked for \d+\.\d\d s\.", looked)
    assert (chain / "runs/first/a/out.txt").read_text() == "1"
    done = do("update", "--json", root=chain)
    assert done.code == 0
    assert [(run["instance"], run["reused"]) for run in done.data] == [("a", False), ("a", False)]
    assert (chain / "runs/first/a/out.txt").read_text() == "2"
    assert re.search(r"^0 of 2 were run again, in [\d.]+ s\.$", do("update", root=chain).out, re.M)
    (chain / "flow" / "first.py").write_text("broken(", "utf-8")
    assert do("update", root=chain).code == 1


def test_update_lists_each_after_what_it_reads(do, chain):
    """By dependency, though their names are in the other order."""
    (chain / "flow" / "alpha.py").write_text(
        '# %% tags=["parameters"]\nconfig = {}\n\n# %%\nopen("../../second/a/run.json").read()\n'
        'open("../../first/a/out.txt").read()\n'
    )
    assert do("run", "alpha", "-i", "a", root=chain).code == 0
    (chain / "data.txt").write_text("3")
    for words in (["--dry-run"], []):
        said = do("update", *words, root=chain)
        names = [word for word in said.out.split() if word.endswith("/a")]
        assert names.index("first/a") < names.index("alpha/a"), said.out
    planned = do("update", "--dry-run", "first", root=chain)
    assert planned.out.startswith("0 of 1 would run again, 1 are up to date.\nLooked for ")


def test_update_heeds_the_setting_of_workers(chain, monkeypatch):
    from ductaflow import SettingsError
    from ductaflow.sweeps import updates

    (chain / "ductaflow.toml").write_text("workers = 1\n")
    (chain / "data.txt").write_text("4")
    seen = []
    real = updates.ThreadPoolExecutor

    def pool(count):
        seen.append(count)
        return real(count)

    monkeypatch.setattr(updates, "ThreadPoolExecutor", pool)
    updates.update(root=chain, progress=False)
    assert set(seen) == {1}
    (chain / "ductaflow.toml").write_text("workers = 0\n")
    with pytest.raises(SettingsError, match=r"workers must be .*, not 0"):
        updates.update(root=chain, dry_run=True)


def test_accept_and_lineage(do, chain):
    (chain / "data.txt").write_text("5")
    said = do("accept", "first/a", root=chain)
    assert said.code == 0
    assert "first/a" in said.out
    assert "accepted without running: " in said.out
    assert "data.txt changed" in said.out
    assert do("run", "first", "-i", "a", "--json", root=chain).data["reused"] is True
    assert do("accept", root=chain).code == 2
    assert "there is no run 'first/z'" in do("accept", "first/z", root=chain).err
    assert do("accept", "first/a", "--json", root=chain).data[0]["instance"] == "a"
    said = do("lineage", "second/a", root=chain)
    assert said.out == "✓ second/a\n  reads from:\n    ✓ first/a\n  is read by no other run\n"
    assert do("lineage", "first/a", "--json", root=chain).data == {
        "run": "first/a", "upstream": [], "downstream": ["second/a"],
        "ancestors": [], "descendants": ["second/a"],
    }  # fmt: skip


def test_run_is_reused_unless_it_is_forced(do, chain):
    assert do("run", "first", "-i", "a", "--json", root=chain).data["reused"] is True
    assert do("run", "first", "-i", "a", "--force", "--json", root=chain).data["reused"] is False


def test_index(do, chain):
    said = do("index", "--json", root=chain)
    assert said.code == 0
    page = Path(said.data["index"])
    assert page == chain / "runs" / "index.html"
    summary = json.loads((page.parent / "bulk_summary.json").read_text("utf-8"))
    assert len(summary["instances"]) == 2
    assert do("index", "nothing", root=chain).code == 2
