"""The options of a run: one declaration, and all the places that read it."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import numpy
import pytest
from click.testing import CliRunner
from conftest import Project

from ductaflow import HtmlOptions, run_notebook, run_step_flow, sweep
from ductaflow.cli.main import group
from ductaflow.model.options import OPTIONS, SETTINGS, NotebookKeywords, RunKeywords, RunOptions
from ductaflow.plans.options import make_options, options_summary, recorded_options
from ductaflow.project.settings import load_settings

CALLS = [(run_step_flow, RunKeywords), (run_notebook, NotebookKeywords), (sweep, RunKeywords)]
VALUES: dict[str, Any] = {  # one that is not the default, of each
    "timeout": 60, "cell_timeout": 1.5, "kernel_name": "geo", "html": False, "preload": ["numpy"],
    "max_age": "1d", "ignore": ["python", "package:numpy"], "defaults": False, "force": True,
    "reuse": False,
}  # fmt: skip


@pytest.mark.parametrize(("call", "keywords"), CALLS)
def test_every_call_has_and_describes_its_options(call: Callable[..., Any], keywords: type) -> None:
    parameters = inspect.signature(call).parameters
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
    for name in keywords.__annotations__:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"\n    {name}: " in (inspect.getdoc(call) or "")
        unset = getattr(RunOptions(), name) if not OPTIONS[name].setting else None
        assert parameters[name].default == unset
    assert "**options" not in (call.__doc__ or "")


@pytest.mark.parametrize(("call", "keywords"), CALLS)
def test_a_misspelt_option_is_refused(call: Callable[..., Any], keywords: type) -> None:
    with pytest.raises(TypeError, match=r"\(\) has no option 'timout'; did you mean 'timeout'\?"):
        call("flow", "a", timout=3)


def test_every_option_is_declared_and_tried_here() -> None:
    assert OPTIONS.keys() == RunKeywords.__annotations__.keys() == VALUES.keys()
    assert {a.name for a in attrs.fields(RunOptions)} - OPTIONS.keys() == {"nested_workers"}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_call_s_value_counts_and_is_recorded(name: str) -> None:
    options = make_options({name: VALUES[name]})
    changed = {a for a in OPTIONS if getattr(options, a) != getattr(RunOptions(), a)}
    assert changed == {name}
    recorded = json.loads(json.dumps(options_summary(options)))
    assert set(recorded) == ({name} if OPTIONS[name].recorded else set())
    if recorded:
        assert RunOptions(**recorded_options(recorded)) == options


@pytest.mark.parametrize("name", [name for name in OPTIONS if OPTIONS[name].read is not bool])
@pytest.mark.parametrize("value", [object(), -1, "", math.nan, {"numpy": False}])
def test_what_an_option_cannot_be_is_refused_with_its_name(name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be .*, not "):
        make_options({name: value})


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_counts_from_its_file_and_from_the_environment(
    setting: str, tmp_path: Path
) -> None:
    name = SETTINGS[setting]
    expected = make_options({name: VALUES[name]})
    (tmp_path / "ductaflow.toml").write_text(f"{setting} = {json.dumps(VALUES[name])}")
    assert make_options({}, load_settings(tmp_path, {})) == expected
    (tmp_path / "ductaflow.toml").unlink()
    value = VALUES[name]
    text = ",".join(value) if isinstance(value, list) else str(value)
    told = load_settings(tmp_path, {f"DUCTAFLOW_{setting.upper()}": text})
    assert make_options({}, told) == expected


def test_every_setting_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    block = readme.split('runs = "runs"', 1)[1].split("```", 1)[0]
    assert [name for name in SETTINGS if name not in block] == []


@pytest.mark.parametrize("command", ["run", "sweep", "check", "rerun"])
def test_every_flag_is_on_the_command_line(command: str) -> None:
    shown = CliRunner().invoke(group, [command, "--help"]).output
    for option in OPTIONS.values():
        assert all(flag in shown for flag in option.flag.split("/"))
        assert not option.flag or option.help[:20] in shown


def test_a_flag_s_value_is_checked_as_a_call_s_is(project: Project) -> None:
    project.write("one", "pass")
    for flag, value in [("--timeout", "0"), ("--cell-timeout", "long"), ("--max-age", "soon")]:
        asked = ["run", "one", flag, value, "--root", str(project.root), "-i", "a"]
        result = CliRunner().invoke(group, asked)
        assert result.exit_code == 2
        assert f"it must be {'an age' if value == 'soon' else 'a number'}" in result.output


def test_a_report_that_is_wanted_looks_as_the_project_says(tmp_path: Path) -> None:
    (tmp_path / "ductaflow.toml").write_text("html = 'shared'")
    settings = load_settings(tmp_path, {})
    assert make_options({"html": True}, settings).html == HtmlOptions(shared=True)
    assert make_options({"html": False}, settings).html is False
    (tmp_path / "ductaflow.toml").write_text("html = false")
    assert make_options({"html": True}, load_settings(tmp_path, {})).html is True


def test_what_equals_a_value_of_an_option_is_one() -> None:
    given = {"timeout": numpy.int64(5), "cell_timeout": numpy.float32(0.5), "html": numpy.False_}
    options = make_options(given)
    assert (options.timeout, options.cell_timeout, options.html) == (5, 0.5, False)
    assert json.loads(json.dumps(options_summary(options))) == {
        "timeout": 5, "cell_timeout": 0.5, "html": False,
    }  # fmt: skip
    assert make_options({"timeout": Fraction(1, 2), "html": 1}).timeout == 0.5


def test_the_hint_of_a_misspelt_argument_knows_all_there_are() -> None:
    with pytest.raises(TypeError, match=r"sweep\(\) has no option 'progres'; .* 'progress'\?"):
        sweep("flow", [], progres=False)  # type: ignore[call-arg]


def test_types_of_a_call_can_be_had() -> None:
    hints = get_type_hints(sweep)
    assert hints["timeout"] == (float | None)
    assert "options" not in hints
