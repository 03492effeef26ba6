"""Configs in other languages: their text, and what real interpreters make of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ductaflow import CellFailed, ConfigError, FlowError, run_step_flow
from ductaflow.plans.languages import TRANSLATORS

CONFIG: dict[str, Any] = {
    "a": 1,
    "rate": -0.5,
    "on": True,
    "nothing": None,
    "text": 'say "hi"\n\\$x',
    "list": [1, "b"],
    "part": {"k": 2, "end": 3},
    "not a name": 1,
}
CASES = {
    "r": ['"say \\"hi\\"\\n\\\\$x"', 'list("k" = 2L, "end" = 3L)', "end <- 3L", "a <- 1L"],
    "julia": ['"say \\"hi\\"\\n\\\\\\$x"', 'Dict{String, Any}("k" => 2, "end" => 3)', "k = 2"],
    "scala": ["val rate = -0.5", 'Map[String, Any]("k" -> 2, "end" -> 3)', "val nothing = None"],
    "bash": ["text='say \"hi\"\n\\$x'", "list=('1' 'b')", 'part=\'{"k": 2, "end": 3}\'', "on=true"],
    "matlab": ["rate = -0.5;", "text = ['say \"hi\"' char([10]) '\\$x'];", "list = {1, 'b'};"],
    "c#": ["object nothing = null;", "var rate = -0.5D;", '{ { "k", 2 }, { "end", 3 } }'],
    "f#": ["let on = true", 'dict [ ("k", box (2)); ("end", box (3)) ]', "let k = 2"],
    "powershell": ["$on = $true", "$nothing = $null", "@{'k' = 2; 'end' = 3}", "@(1, 'b')"],
    "javascript": ["var on = true;", 'var part = {"k": 2, "end": 3};'],
    "ruby": ["nothing = nil", '{"k" => 2, "end" => 3}', '"say \\"hi\\"\\n\\\\$x"'],
}


@pytest.mark.parametrize("language", CASES)
def test_the_text_of_each_language(language: str) -> None:
    translator = TRANSLATORS[language]
    whole, flat = translator.config_source(CONFIG), translator.flatten_source(CONFIG)
    for piece in CASES[language]:
        assert piece in flat
    assert "not a name" in whole
    assert "not a name" not in flat
    assert whole.startswith(translator.comment)


@pytest.mark.parametrize("language", TRANSLATORS)
def test_a_name_that_means_something_else_is_not_assigned(language: str) -> None:
    translator = TRANSLATORS[language]
    words = dict.fromkeys(translator.reserved, 1)
    assert translator.flatten_source(words).endswith("becomes a variable.")
    assert translator.flatten_source({"config": 1}).endswith("becomes a variable.")
    # A key of the config's own wins over one of a mapping in it, as in Python.
    lines = translator.flatten_source({"depth": 10, "model": {"depth": 2}}).splitlines()
    assert [line for line in lines if "depth" in line and "model" not in line] == [
        line for line in lines if "10" in line
    ]


def test_what_a_language_cannot_hold_is_an_error() -> None:
    for language in ("r", "bash"):
        with pytest.raises(ConfigError, match="cannot hold the character NUL"):
            TRANSLATORS[language].flatten_source({"a": "x\0y"})


# --- real interpreters ---------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_scalars = st.none() | st.booleans() | st.integers(-(2**31) + 1, 2**31 - 1) | _texts | st.floats(
    allow_nan=False, allow_infinity=False
)  # fmt: skip
_values = _scalars | st.lists(_scalars, max_size=3) | st.dictionaries(_texts, _scalars, max_size=2)
_configs = st.lists(st.dictionaries(_texts, _values, max_size=3), max_size=6)
once = settings(max_examples=5, suppress_health_check=list(HealthCheck))


def lines_of(command: list[str], source: str) -> list[str]:
    """What an interpreter prints; not by `splitlines`, for which texts have more line ends."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    said = subprocess.run(
        command, input=source.encode(), capture_output=True, check=True, env=environment
    )
    return [line for line in said.stdout.decode().split("\n") if line]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@once
@given(_configs)
def test_javascript_has_the_same_values(configs: list[dict[str, Any]]) -> None:
    javascript = TRANSLATORS["javascript"]
    source = "".join(
        f"{{ {javascript.config_source(c)}\nconsole.log(JSON.stringify(config)); }}\n"
        for c in configs
        if "__proto__" not in json.dumps(c)
    )
    for line, config in zip(
        lines_of(["node", "-"], source),
        [c for c in configs if "__proto__" not in json.dumps(c)],
        strict=True,
    ):
        # Which has numbers of one kind, and writes a large one as if it were whole.
        assert json.loads(line, parse_int=float) == config


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@once
@given(st.lists(_texts, max_size=9))
def test_bash_has_the_same_texts(texts: list[str]) -> None:
    source = "".join(
        f"{TRANSLATORS['bash'].flatten_source({'x': text, 'all': [text, text]})}\n"
        'printf "%s\\0" "$x" "${all[1]}"\n'
        for text in texts
    )
    said = subprocess.run(["bash", "-s"], input=source.encode(), capture_output=True, check=True)
    expected = [text for text in texts for _ in range(2)]
    assert said.stdout.decode().split("\0")[:-1] == expected


needs_r = pytest.mark.skipif(
    shutil.which("R") is None
    or subprocess.run(
        ["Rscript", "-e", "library(IRkernel); library(jsonlite)"], capture_output=True
    ).returncode
    != 0,
    reason="needs R with IRkernel",
)

R_FLOW = """# ---
# jupyter:
#   kernelspec:
#     display_name: R
#     language: R
#     name: ir
# ---

# %% tags=["parameters"]
threshold <- 1
region <- "north"

# %%
writeLines(jsonlite::toJSON(config, auto_unbox = TRUE, null = "null", digits = NA), "seen.json")
cat(threshold * 2, region, k, "\\n")

# %%
data <- readLines("../../../in.txt")
cat(data)
"""


@needs_r
@once
@given(_configs)
def test_r_has_the_same_values(configs: list[dict[str, Any]]) -> None:
    r = TRANSLATORS["r"]
    configs = [c for c in configs if _fits_r(c)]
    source = "".join(
        f"{r.config_source(c)}\ncat(jsonlite::toJSON(config, auto_unbox = TRUE, null = 'null', "
        "digits = NA), '\\n')\n"
        for c in configs
    )
    told = lines_of(["R", "--vanilla", "--slave", "--encoding=UTF-8"], source)
    for line, config in zip(told, configs, strict=True):
        assert json.loads(line) == pytest.approx(config, rel=1e-12) if _flat(config) else True


def _fits_r(config: dict[str, Any]) -> bool:
    """Whether jsonlite can tell it: a name that is empty or there twice it cannot."""
    return "" not in json.dumps(config)


def _flat(config: dict[str, Any]) -> bool:
    return not any(isinstance(value, (dict, list)) for value in config.values())


@needs_r
def test_a_flow_in_r(project: Project) -> None:
    """Its config is injected and becomes variables; it is reused as far as files tell."""
    (project.root / "flow" / "zones.R").write_text(R_FLOW)
    (project.root / "in.txt").write_text("one")
    config = {"threshold": 21, "region": "Zürich $x", "part": {"k": 3.5, "list": [1, None]}}
    run = run_step_flow("zones", "zones", "a", config)
    assert run.ok
    log = (run.dir / "zones.log").read_text()
    assert "42 Zürich $x 3.5" in log
    assert json.loads((run.dir / "seen.json").read_text()) == config
    assert run_step_flow("zones", "zones", "a", config).reused
    (project.root / "in.txt").write_text("two")
    again = run_step_flow("zones", "zones", "a", config)
    assert not again.reused
    assert "in.txt changed" in str(again.reasons)
    with pytest.raises(CellFailed):
        run_step_flow("zones", "zones", "b", {"threshold": "x"})


def test_a_language_without_a_translator_says_so(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"argv": ["gforth"], "display_name": "Forth", "language": "Forth"}
    (tmp_path / "kernels" / "forth").mkdir(parents=True)
    (tmp_path / "kernels" / "forth" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    text = R_FLOW.replace("R\n#     name: ir", "Forth\n#     name: forth")
    (project.root / "flow" / "odd.py").write_text(text)
    with pytest.raises(FlowError, match="is in forth: a config can be injected into python, r, "):
        run_step_flow("odd", "odd", "a", {"threshold": 1})


def test_a_kernel_of_another_language_is_refused(project: Project) -> None:
    (project.root / "flow" / "zones.R").write_text(R_FLOW)
    with pytest.raises(FlowError, match="is in r, but its kernel 'python3' speaks python"):
        run_step_flow("zones", "zones", "a", {"threshold": 1}, kernel_name="python3")
