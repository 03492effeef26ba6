"""The network: runs that connected to other hosts are noted with their names, and age."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone

import pytest

from ductaflow import SettingsError, explain, get_all_instances, run_step_flow, sweep, update
from ductaflow.model.ages import format_age, format_limit, seconds_of

# 192.0.2.0/24 and 198.51.100.0/24 are nobody's (RFC 5737). That nothing answers there does not
# matter: that a flow asked is what counts.
NAMED = """\
import socket
own = socket.getaddrinfo
def resolve(host, port, *args, **kwargs):
    if host == "api.example.org":
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port))]
    return own(host, port, *args, **kwargs)
from ductaflow_inside.observing import network
socket.getaddrinfo = network._resolving(resolve)
try:
    socket.create_connection(("api.example.org", 443), timeout=0.05)
except OSError as e:
    print(type(e).__name__)"""
CONNECTS = """\
import socket
with socket.socket() as s:
    s.settimeout(0.05)
    try:
        s.connect(("198.51.100.3", 80))
    except OSError:
        pass"""
CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {CONNECTS!r}], check=True)"
HERE = """\
import socket, os
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()[:2]).close()
with socket.socket(socket.AF_UNIX) as s:
    try:
        s.connect("nobody")
    except OSError:
        pass
try:
    own = socket.gethostbyname(socket.gethostname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((own, 9))
except OSError:
    pass"""


def aged(run, **ago):
    """Let a run have begun so long ago."""
    record = json.loads(run.paths.record.read_text())
    record["started"] = (datetime.now(timezone.utc) - timedelta(**ago)).isoformat()
    run.paths.record.write_text(json.dumps(record))


@pytest.mark.parametrize("observer", ["on", "off"])
def test_other_hosts_are_noted_by_name_and_this_machine_is_none(project, monkeypatch, observer):
    if observer == "off":
        monkeypatch.setenv("DUCTAFLOW_OBSERVER", "off")
    project.write("named", NAMED)
    project.write("number", CONNECTS)
    project.write("child", CHILD)
    project.write("here", HERE)
    named = project.run("named")
    assert named.record.hosts == ("api.example.org",)
    (note,) = [note for note in named.notes if note.kind == "network"]
    assert "It read from api.example.org" in note.message
    assert "reused for ever unless max_age is set" in note.message
    for text in (named.notebook.read_text(), named.html.read_text(), named.log.read_text()):
        assert "It read from api.example.org" in text
    assert project.run("number").record.hosts == ("198.51.100.3",)
    child = project.run("child").record
    assert child.hosts == (("198.51.100.3",) if child.observed == "native" else ())
    here = project.run("here")
    assert here.record.hosts == ()
    assert not [note for note in here.notes if note.kind == "network"]


def test_a_name_that_nobody_knows_is_noted(project):
    project.write(
        "lost",
        "import socket\ntry:\n    socket.getaddrinfo('no.such.host.invalid', 443)\n"
        "except OSError:\n    print('offline')",
    )
    assert project.run("lost").record.hosts == ("no.such.host.invalid",)


def test_max_age_bounds_the_reuse_of_what_came_from_the_network(project):
    project.write("net", CONNECTS)
    project.write("dry", "print(1)")
    run = project.run("net", max_age="1d")
    assert run.record.options["max_age"] == 86400
    assert any("until it is 1d old (max_age)" in note.message for note in run.notes)
    dry = project.run("dry", max_age=0)
    assert project.run("dry", max_age=0).reused  # it read from no other host
    aged(run, days=2, minutes=5)
    aged(dry, days=2)
    assert project.run("dry", max_age="1h").reused
    assert project.run("net").reused
    assert project.run("net", max_age=timedelta(weeks=1)).reused
    assert project.run("net", max_age=math.inf).reused
    decision = explain("net", "a", max_age="1d")
    assert [(reason.kind, str(reason)) for reason in decision.reasons] == [
        ("age", "it is 2 days old, max_age is 1d, and it read from 198.51.100.3")
    ]
    assert update("net", dry_run=True, progress=False)[0].status.value == "planned"
    again = sweep("net", [{"instance": "a"}], max_age="1d", progress=False, config=lambda _: {})
    assert not again[0].reused
    assert again[0].reasons == decision.reasons


def test_a_flow_or_the_project_may_say_how_old(project, monkeypatch):
    flow = project.write("net", CONNECTS)
    aged(project.run("net"), hours=3)
    assert explain("net", "a")
    text = flow.read_text()
    header = "# ---\n# jupyter:\n#   ductaflow:\n#     max_age: {}\n# ---\n\n"
    flow.write_text(header.format("2h") + text)
    assert not explain("net", "a")
    assert explain("net", "a", max_age="4h")  # what a call says wins
    assert update(dry_run=True, progress=False)[0].status.value == "planned"
    flow.write_text(header.format("later") + text)
    with pytest.raises(SettingsError, match=r"header of .*net\.py.*'1d'.*, not 'later'"):
        explain("net", "a")
    flow.write_text(text)
    (project.root / "ductaflow.toml").write_text('max_age = "2h"\n')
    assert not explain("net", "a")
    monkeypatch.setenv("DUCTAFLOW_MAX_AGE", "1d")
    assert explain("net", "a")
    monkeypatch.setenv("DUCTAFLOW_MAX_AGE", "600")
    assert not explain("net", "a")


def test_a_flow_of_flows_depends_on_the_hosts_of_those_that_it_runs(project):
    project.write("net", CONNECTS)
    project.write("above", "from ductaflow import run_step_flow\nrun_step_flow('net', 'a', {})")
    assert project.run("above").record.hosts == ("198.51.100.3",)
    assert project.run("above", force=True).record.hosts == ("198.51.100.3",)  # of one reused


def test_an_executed_copy_is_told_from_a_flow_with_settings(project):
    flow = project.write("net", "print(1)")
    header = "# ---\n# jupyter:\n#   ductaflow:\n#     max_age: 1d\n# ---\n\n"
    flow.write_text(header + flow.read_text())
    run = project.run("net")
    own = json.loads(run.notebook.read_text())["metadata"]["ductaflow"]
    assert (own["max_age"], own["instance"]) == ("1d", "a")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90), (0, 0), (1.5, 1.5), ("45", 45), ("30m", 1800), ("12h", 43200), (" 1d ", 86400),
        ("2 w", 1209600), ("1.5h", 5400), ("inf", math.inf), (timedelta(days=1), 86400),
        (math.inf, math.inf),
    ],
)  # fmt: skip
def test_ages(given, seconds):
    assert seconds_of(given, "max_age") == seconds


@pytest.mark.parametrize("given", ["1y", "", "d", "-1d", -1, math.nan, "1d2h", timedelta(-1)])
def test_what_is_no_age_is_refused(given):
    with pytest.raises(ValueError, match="max_age must"):
        seconds_of(given, "max_age")


@pytest.mark.parametrize("given", [True, [], b"1d"])
def test_what_is_of_no_fit_type_is_refused(project, given):
    project.write("net", "print(1)")
    with pytest.raises(TypeError, match=r"max_age must be an age, as 3600 .seconds., a timedelta"):
        run_step_flow("net", "a", max_age=given)


def test_ages_are_told_in_words():
    assert [format_limit(s) for s in (86400, 90, 5400, 0, 1209600)] == [
        "1d", "90s", "90m", "0s", "2w",
    ]  # fmt: skip
    assert [format_age(s) for s in (0.5, 61, 3600, 190000)] == [
        "0 seconds", "1 minute", "1 hour", "2 days",
    ]  # fmt: skip


def test_the_command_that_repeats_a_run_has_its_max_age(project):
    from ductaflow.cli.main import main

    project.write("net", "print(1)")
    project.run("net", max_age="1d")
    assert main(["rerun", "net/a"]) == 0
    (run,) = get_all_instances("net")
    assert run.record.options["max_age"] == 86400


def test_the_command_line_takes_it(project, capsys):
    from ductaflow.cli.main import main

    project.write("net", CONNECTS)
    assert main(["run", "net", "-i", "a", "--max-age", "1d"]) == 0
    assert main(["run", "net", "-i", "a", "--max-age", "0"]) == 0
    out = capsys.readouterr().out
    assert "reused" not in out
    assert main(["run", "net", "-i", "a", "--max-age", "soon"]) == 2
    assert "it must be an age" in capsys.readouterr().err
