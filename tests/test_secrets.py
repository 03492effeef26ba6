"""Secrets: the flow has the value, and nothing that a run leaves has it in any form."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
from conftest import Project

import ductaflow
from ductaflow import CellFailed, ConfigError, collate, explain, export, grid, secret, sweep
from ductaflow.convert.runscript import create_flow_run_script
from ductaflow.convert.standalone import create_standalone_python_script
from ductaflow.secrets.machinekey import KEY_VARIABLE, key_file, keyed_hash, same_key
from ductaflow.secrets.masking import Masker

PLANTED = "pl4nted \"quoted\" & 'se<ret>'\\é"
FORMS = {
    PLANTED,
    repr(PLANTED)[1:-1],
    json.dumps(PLANTED)[1:-1],
    json.dumps(PLANTED, ensure_ascii=False)[1:-1],
    html.escape(PLANTED),
    html.escape(PLANTED, quote=False),
    quote(PLANTED),
    quote(PLANTED, safe=""),
    base64.b64encode(PLANTED.encode()).decode(),
    "pl4nted",
}

SHOWS = """
import base64, html, json, logging, sys, time, urllib.parse
from IPython.display import HTML, JSON, display
assert len(password) == LENGTH and config["password"] == password
print(password, repr(password), json.dumps(password), html.escape(password))
print(urllib.parse.quote(password), base64.b64encode(password.encode()).decode())
print(password, file=sys.stderr)
logging.warning("it is %s", password)
for part in (password[:7], password[7:]):
    print(part, end="", flush=True)
    time.sleep(0.3)
print()
display(HTML("<b>" + html.escape(password) + "</b>"), JSON({"of": [password]}))
display({"text/markdown": password, "text/plain": password}, raw=True)
from ductaflow import record
record(told=password)
print(In, _ih)
get_ipython().run_line_magic("history", "")
password
""".replace("LENGTH", str(len(PLANTED)))


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret, where a run finds it."""
    monkeypatch.setenv("PLANTED", PLANTED)


def assert_nowhere(*places: Path | str) -> None:
    """The planted secret is in no byte of these files, folders and texts."""
    looked = 0
    for place in places:
        found = [place] if isinstance(place, str) or place.is_file() else place.rglob("*")
        for each in found:
            if isinstance(each, Path) and not each.is_file():
                continue
            data = each.encode() if isinstance(each, str) else each.read_bytes()
            looked += len(data)
            for form in FORMS:
                at = data.find(form.encode())
                assert at < 0, (each, form, data[max(0, at - 200) : at + 200])
    assert looked


def test_a_run_has_its_secret_nowhere(project: Project) -> None:
    project.write("told", SHOWS)
    run = project.run("told", {"password": secret("env:PLANTED")})
    assert run.status.ok
    assert_nowhere(project.root / "runs", repr(run), repr(run.config))
    assert "•••" in run.notebook.read_text("utf-8")
    assert "•••" in run.html.read_text("utf-8")
    assert "•••" in run.log.read_text("utf-8")
    assert json.loads((run.dir / "config.json").read_text("utf-8")) == {
        "password": {"$secret": "env:PLANTED"}
    }


def test_a_run_on_a_kernel_that_is_not_ours_neither(project: Project, cold_kernel: str) -> None:
    project.write("cold", SHOWS)
    run = project.run("cold", {"password": secret("env:PLANTED")}, kernel_name=cold_kernel)
    assert run.status.ok
    assert_nowhere(project.root / "runs")


@pytest.fixture
def cold_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernelspec that starts ipykernel through a command that is not known to be it."""
    folder = tmp_path / "jupyter" / "kernels" / "coldone"
    folder.mkdir(parents=True)
    script = folder / "start.py"
    script.write_text("from ipykernel.kernelapp import launch_new_instance as go\ngo()\n")
    spec = {
        "argv": [sys.executable, str(script), "-f", "{connection_file}"],
        "display_name": "Cold",
        "language": "python",
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return "coldone"


def test_a_failure_tells_no_secret(project: Project) -> None:
    project.write("failing", "def use(password):\n    raise ValueError(password)\nuse(password)")
    with pytest.raises(ductaflow.CellFailed) as caught:
        project.run("failing", {"password": secret(value=PLANTED)})
    assert_nowhere(project.root / "runs", str(caught.value))
    assert "•••" in str(caught.value)


def test_a_sweep_its_collation_its_export_and_its_pages(project: Project, tmp_path: Path) -> None:
    flow = project.write(
        "swept",
        "print(password, deep['list'])\nassert seed != 2, password\npassword",
    )
    table = pd.DataFrame(
        {
            "seed": [1, 2, 3],
            "password": [secret("env:PLANTED"), secret(value=PLANTED), secret("env:PLANTED")],
            "deep": [{"list": [secret("env:PLANTED")]}] * 3,
        }
    )
    runs = sweep(flow, table, instance="seed")
    assert [run.status.ok for run in runs] == [True, False, True]
    out = tmp_path / "out"
    export(runs, str(out / "{seed}"))
    collate(root=project.root)
    page = ductaflow.generate_status_report(runs, root=project.root)
    texts = (page, repr(runs), repr(table), runs.frame().to_csv(), runs.summary())
    assert_nowhere(project.root / "runs", out, *texts)


def test_names_made_of_a_grid_have_no_secret(project: Project) -> None:
    flow = project.write("grids", "print(password)")
    runs = sweep(flow, grid(password=[secret("env:PLANTED"), secret(value=PLANTED)], seed=[1]))
    assert all(run.status.ok for run in runs)
    assert len({run.instance for run in runs}) == 2
    assert_nowhere(project.root / "runs", *(run.instance for run in runs))


def test_the_command_line_tells_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("typed", SHOWS)
    monkeypatch.chdir(project.root)

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "ductaflow.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        assert_nowhere(done.stdout + done.stderr + " ")
        return done.stdout

    call("run", "typed", "-i", "a", "-p", 'password={"$secret": "env:PLANTED"}')
    assert ductaflow.get_all_instances("typed", root=project.root)[0].status.ok
    assert "•••" in call("log", "typed/a")
    call("show", "typed/a")
    call("ls")
    call("explain", "typed", "-i", "a")
    call("rerun", "typed/a")
    call("inspect", "typed")
    assert_nowhere(project.root / "runs")


def test_scripts_look_it_up_when_they_run(project: Project) -> None:
    flow = project.write("scripted", "assert len(password) == " + str(len(PLANTED)))
    config = {"password": secret("env:PLANTED")}
    script = create_standalone_python_script(flow, config=config, root=project.root)
    runner = create_flow_run_script(flow, root=project.root)
    assert_nowhere(script.parent, runner)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_nowhere(project.root, done.stdout + done.stderr + " ")
    without = {k: v for k, v in os.environ.items() if k != "PLANTED"}
    refused = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=without, check=False
    )
    assert refused.returncode != 0
    assert "env:PLANTED" in refused.stderr


def test_reuse_asks_whether_the_value_is_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("again", "len(password)")
    config = {"password": secret("env:PLANTED")}
    first = project.run("again", config)
    assert project.run("again", config).reused
    monkeypatch.setenv("PLANTED", "an0ther one")
    (reason,) = explain(first.step, first.instance, root=project.root).reasons
    assert reason.kind == "secret"
    assert reason.message == "the secret ••• (env:PLANTED) changed"
    monkeypatch.setenv("PLANTED", PLANTED)
    monkeypatch.setenv(KEY_VARIABLE, "another machine's")
    (reason,) = explain(first.step, first.instance, root=project.root).reasons
    assert "another key" in reason.message
    assert KEY_VARIABLE in reason.message


def test_a_secret_that_cannot_be_had_says_what_to_do(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("gone", "len(password)")
    first = project.run("gone", {"password": secret("env:PLANTED")})
    before = first.notebook.read_bytes()
    monkeypatch.delenv("PLANTED")
    with pytest.raises(ConfigError, match="PLANTED is not set"):
        explain(first.step, first.instance, root=project.root)
    with pytest.raises(ConfigError, match="PLANTED is not set"):
        project.run("gone", {"password": secret("env:PLANTED")})
    assert first.notebook.read_bytes() == before
    unknown = {"password": {"$secret": f"value:{keyed_hash('never given')}"}}
    with pytest.raises(ConfigError, match=r"secret\(value=\.\.\.\) again"):
        project.run("gone", unknown)
    assert first.notebook.read_bytes() == before


@pytest.mark.parametrize("source", ["hunter2", "file:/x", "env:", "keyring:service", ""])
def test_a_source_of_no_known_kind_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        secret(source)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="`password`"):
        ductaflow.plans.config.normalise({"password": {"$secret": source}})


def test_secret_takes_one_string() -> None:
    for given in ({}, {"source": "env:A", "value": "b"}, {"value": 5}):
        with pytest.raises(TypeError):
            secret(**given)  # type: ignore[arg-type]
    assert "b3tter" not in repr(secret(value="b3tter"))


def test_keyring(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    project.write("ring", "assert password.startswith('pl4')\nprint(password)")
    config = {"password": secret("keyring:database/me")}
    with pytest.raises(ConfigError, match=r"ductaflow\[keyring\]"):
        project.run("ring", config)
    (tmp_path / "keyring.py").write_text(
        "import types\n"
        "class errors:\n    class KeyringError(Exception): pass\n"
        f"def get_password(service, name):\n"
        f"    return {PLANTED!r} if (service, name) == ('database', 'me') else None\n"
    )
    monkeypatch.delitem(sys.modules, "keyring")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert project.run("ring", config).status.ok
    with pytest.raises(ConfigError, match="keyring set database you"):
        project.run("ring", {"password": secret("keyring:database/you")})
    monkeypatch.delitem(sys.modules, "keyring")
    assert_nowhere(project.root / "runs")


def test_papermills_call_and_run_notebook(project: Project) -> None:
    from ductaflow.papermill import execute_notebook

    flow = project.write("papers", SHOWS.replace('and config["password"] == password', ""))
    notebook, out = project.root / "in.ipynb", project.root / "out.ipynb"
    import jupytext

    jupytext.write(jupytext.read(flow), notebook)
    execute_notebook(notebook, out, parameters={"password": secret("env:PLANTED")})
    assert_nowhere(out)
    folder = project.root / "elsewhere"
    run = ductaflow.run_notebook(
        flow, config={"password": secret("env:PLANTED")}, execution_dir=folder
    )
    assert run.status.ok
    assert_nowhere(folder)


def test_a_short_secret_is_not_masked_and_noted(project: Project) -> None:
    project.write("short", "print('a banana', password)")
    run = project.run("short", {"password": secret(value="an")})
    assert "a banana" in run.log.read_text("utf-8")
    assert [note.kind for note in run.record.notes] == ["secret"]


def test_a_stream_keeps_what_is_no_secret() -> None:
    masker = Masker(["secret-one"], "•••")
    parts = [masker.stream("stdout", part) for part in ("a sec", "ret-on", "ly, sec", "ret-one b")]
    parts.append(masker.rest("stdout"))
    assert "".join(parts) == "a secret-only, ••• b"


def test_base64_inside_a_longer_text_is_masked() -> None:
    masker = Masker(["s3cret-value"], "•••")
    for before in ("", "u", "us", "user:"):
        text = base64.b64encode(f"{before}s3cret-value:more".encode()).decode()
        assert "•••" in masker.text(text)


def test_the_key_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ductaflow.secrets import machinekey

    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    machinekey._key.cache_clear()
    try:
        told = keyed_hash("value")
        assert same_key(told)
        if sys.platform != "win32":
            assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
        machinekey._key.cache_clear()
        assert keyed_hash("value") == told
    finally:
        machinekey._key.cache_clear()


def test_variables_of_another_machine_say_that_they_cannot_be_compared(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_MODE", "fast")
    project.write("asks", "import os\nos.environ['APP_MODE'], os.environ.get('APP_UNSET')")
    run = project.run("asks")
    monkeypatch.setenv(KEY_VARIABLE, "another machine's")
    (reason,) = explain(run.step, run.instance, root=project.root).reasons
    assert reason.kind == "variable"
    assert "APP_MODE cannot be compared" in reason.message
    ductaflow.accept(run.step, run.instance, root=project.root)
    assert explain(run.step, run.instance, root=project.root).reuse


@pytest.mark.parametrize("word", ["text", "data", "error", "status", "stdout", "state", "python"])
def test_a_secret_that_is_a_word_of_the_protocol_breaks_nothing(
    project: Project, word: str
) -> None:
    project.write(
        "word", "from IPython.display import HTML, display\ndisplay(HTML('<i>ab</i>'))\n1"
    )
    config = {"password": secret(value=word)}
    run = project.run("word", config)
    assert run.status.ok
    assert "<i>ab</i>" in run.html.read_text("utf-8")
    assert project.run("word", config).reused


def test_a_name_of_a_file_has_none(project: Project) -> None:
    project.write("files", "import os\nos.path.exists('../../../by-' + password)")
    run = project.run("files", {"password": secret(value="n0t-in-records")})
    assert "n0t-in-records" not in (run.dir / "run.json").read_text("utf-8")
    assert "by-•••" in (run.dir / "run.json").read_text("utf-8")


def test_a_file_named_by_a_secret_is_looked_for_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "northwind")
    reads = "from pathlib import Path\nprint(Path(f'../../../{tenant}.csv').exists())"
    project.write("f", reads, parameters="config = {'tenant': ''}")
    config = {"tenant": secret("env:PLANTED")}
    assert "False" in project.run("f", config).read_log()
    (project.root / "northwind.csv").write_text("1")
    run = project.run("f", config)
    assert not run.reused
    assert "True" in run.read_log()
    assert "the name of a file has a secret in it" in str(project.run("f", config).reasons)
    (project.root / "northwind.csv").unlink()
    assert b"northwind" not in (run.dir / "run.json").read_bytes()


def test_no_host_is_named_by_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "hunter22secret")
    connects = (
        "import contextlib, socket\nwith contextlib.suppress(OSError):\n"
        "    socket.create_connection((password, 80), timeout=2)"
    )
    project.write("f", connects, parameters="config = {'password': ''}")
    run = project.run("f", {"password": secret("env:PLANTED")})
    assert run.record.hosts
    for file in run.dir.iterdir():
        assert b"hunter22secret" not in file.read_bytes(), file


def test_shortened_numbered_and_half_escaped_ones_are_masked() -> None:
    token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5"
    masker = Masker([token, "483920", "p@ss%s^w0rd!"], "•••")
    assert masker.text(f"0  {token[:47]}...  x") == "0  •••  x"
    assert masker.text(f"f('{token[:20]}…{token[-9:]}')").count("eyJ") == 0
    assert token[-9:] not in masker.text(f"…{token[-9:]}")
    assert masker.text("http://u:p@ss%25s%5Ew0rd!@h/") == "http://u:•••@h/"
    assert masker.text("http://u:p@ss%25s%5ew0rd%21@h/") == "http://u:•••@h/"
    tree = masker.tree({"n": 483920, "on": True, "m": 4839201, "x": [483920.5, 483920]})
    assert tree == {"n": "•••", "on": True, "m": 4839201, "x": [483920.5, "•••"]}
    assert masker.text("eyJhbGci is how many begin") == "eyJhbGci is how many begin"


@pytest.mark.parametrize(
    "coloured",
    [
        "\x1b[31msecr\x1b[0met-one",
        "\x1b[1;31ms\x1b[0m\x1b[32mecret-on\x1b[Ke\x1b[0m",
        "secr\x1b]8;;http://x\x1b\\et\x1b]8;;\x07-one",
        "\x9b31msecret\x9b0m-one",
        "sec\x1b(Bret-\x1b7one",
        "\x1b[31m".join("secret-one"),
    ],
)
def test_colours_inside_a_secret_hide_none_of_it(coloured: str) -> None:
    """In one piece, and in a stream wherever that is cut."""
    text = f"a {coloured} b\x1b[0m secret-only"
    whole = Masker(["secret-one"], "•••").text(text)
    for cut in range(len(text) + 1):
        masker = Masker(["secret-one"], "•••")
        parts = [masker.stream("stdout", part) for part in (text[:cut], text[cut:])]
        assert "".join([*parts, masker.rest("stdout")]) == whole
    assert whole.count("•••") == 1
    assert whole.startswith("a ")
    assert whole.endswith(" b\x1b[0m secret-only")
    commands = r"\x1b\[[0-9;]*[mK]|\x9b[0-9]*m|\x1b\].*?(?:\x07|\x1b\\)|\x1b\(B|\x1b7"
    plain = re.sub(commands, "", whole)
    assert plain == "a ••• b secret-only"


@pytest.mark.parametrize(
    "command",
    [
        "\x1b]8;;https://host/?t=secret-one\x1b\\here\x1b]8;;\x1b\\",
        "\x1b]0;secret-one\x07",
        "\x1b[31m\x1bsecret-one",
        "\x1b]0;secr\x1b[0met-onesecret-one",
    ],
)
def test_a_secret_in_a_command_to_a_terminal_is_none_in_parts_either(command: str) -> None:
    text = f"a {command} b"
    for cut in range(len(text) + 1):
        for second in range(cut, len(text) + 1):
            masker = Masker(["secret-one"], "•••")
            parts = (text[:cut], text[cut:second], text[second:])
            shown = "".join([masker.stream("stdout", part) for part in parts])
            shown += masker.rest("stdout")
            assert "secret-one" not in shown
            assert "•••" in shown


def test_commands_to_a_terminal_are_not_held_back_without_end() -> None:
    masker = Masker(["secret-one"], "•••")
    shown = "".join(masker.stream("stdout", part) for part in ["s", *["\x1b[1A"] * 4_000])
    assert len(shown) > 8_000


def test_bytes_have_none_and_keep_their_length() -> None:
    masker = Masker(["gehéim-eins"], "•••")
    for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
        data = b"\xff\xff" + "gehéim-eins".encode(code) + b"\xfe\xfe"
        assert masker.binary(data) == b"\xff\xff" + b"*" * (len(data) - 4) + b"\xfe\xfe"
    assert b"Z2Vow" not in masker.binary(base64.b64encode("gehéim-eins".encode()))
    assert Masker([], "•••").binary(b"x") == b"x"


def test_coloured_output_and_buffers_of_widgets_have_none(project: Project) -> None:
    project.write(
        "told",
        "import base64, sys, time\nfor out in (sys.stdout, sys.stderr):\n"
        "    for part in ('\\x1b[31m' + password[:5] + '\\x1b[0', 'm' + password[5:] + '\\n'):\n"
        "        print(part, end='', file=out, flush=True)\n        time.sleep(0.2)",
        "import ipywidgets as w\nimage, other = w.Image(value=password.encode()), w.Image()\nimage",
        "other.value = password.encode('utf-16-le')",
        "raise ValueError('\\x1b[1m' + password[:3] + '\\x1b[0m' + password[3:])",
    )
    with pytest.raises(CellFailed) as caught:
        project.run("told", {"password": secret("env:PLANTED")})
    notebook = json.loads(caught.value.run.notebook.read_text("utf-8"))
    (state,) = notebook["metadata"]["widgets"].values()
    buffers = [b for model in state["state"].values() for b in model.get("buffers", ())]
    assert [set(base64.b64decode(buffer["data"])) for buffer in buffers] == [{ord("*")}] * 2
    assert_nowhere(project.root / "runs", str(caught.value))
    colours = re.compile(r"(?:\x1b|\\u001b|\\x1b)\[[0-9;]*m")
    for path in (project.root / "runs").rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            assert "4nted" not in colours.sub("", text), path


@pytest.mark.parametrize(
    ("config", "key", "others"),
    [
        ({"a": {"b": {"$secret": "env:PLANTED", "other": "hunter2"}}}, "`a.b`", "'other'"),
        (
            {"a": [{"other": "hunter2", "$secret": "env:PLANTED", "x": 1}]},
            r"`a\[0\]`",
            "'other', 'x'",
        ),
        ({"$secret": "env:PLANTED", "other": "hunter2"}, "the config", "'other'"),
    ],
)
def test_a_secret_beside_other_keys_is_no_value(
    project: Project, config: dict[str, Any], key: str, others: str
) -> None:
    project.write("f", "1")
    with pytest.raises(ConfigError, match=rf"{key} has '\$secret' beside {others}; a secret") as e:
        project.run("f", config)
    assert "hunter2" not in str(e.value)
    assert not (project.root / "runs/f").exists()


@pytest.mark.parametrize("kind", ["csv", "xlsx", "pandas"])
def test_a_cell_of_a_table_may_be_a_secret(project: Project, kind: str) -> None:
    project.write("f", "assert password.startswith('pl4nt')\nprint(password)")
    frame = pd.DataFrame({"instance": ["a"], "password": ['{"$secret": "env:PLANTED"}']})
    table = frame if kind == "pandas" else project.root / f"table.{kind}"
    if kind == "csv":
        frame.to_csv(table, index=False)
    elif kind == "xlsx":
        frame.to_excel(table, index=False)
    (run,) = sweep("f", table, progress=False).ok
    assert run.config == {"password": {"$secret": "env:PLANTED"}}
    assert_nowhere(project.root / "runs")


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            '{"$secret": "env:PLANTED", "other": 1}',
            r"row 0 .*`password` has '\$secret' beside 'other'",
        ),
        ("{“$secret”: “env:PLANTED”}", "row 0 .*`password`.*looks like a secret"),
        ("{$secret: env:PLANTED}", "row 0 .*`password`.*looks like a secret"),
        ('{"of": {"$secret": "env:PLANTED"}}', "row 0 .*`password`.*looks like a secret"),
        ('{"$secret": "PLANTED"}', "row 0 .*`password`: a secret's source is"),
    ],
)
def test_a_cell_that_is_nearly_a_secret_is_told(project: Project, cell: str, told: str) -> None:
    project.write("f", "1")
    frame = pd.DataFrame({"instance": ["a"], "password": [cell]})
    with pytest.raises(ConfigError, match=told):
        sweep("f", frame, progress=False)
    (run,) = sweep("f", frame.assign(password="costs $secret {x}"), progress=False).ok
    assert run.config == {"password": "costs $secret {x}"}
