"""What is added to the message of a flow's error."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Project

from ductaflow import RunFailed
from ductaflow.execution.hints import deeper_key

CONFIG: dict[str, Any] = {
    "model": {"fit": {"train_share": 0.8, "odd key": {"deep": 1}}},
    "rows": [{"weight": 1}, {"weight": 2}],
    "not a name": {"also not": {"lost": 1}},
}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("train_share", '`fit["train_share"]`'),
        ("deep", '`fit["odd key"]["deep"]`'),
        ("weight", '`rows[0]["weight"]` or `rows[1]["weight"]`'),
        ("lost", '`config["not a name"]["also not"]["lost"]`'),
    ],
)
def test_a_deeper_key_is_told_by_its_nearest_variable(name: str, where: str) -> None:
    told = deeper_key(f"name '{name}' is not defined", CONFIG)
    assert told == f". In the config, `{name}` is {where}"
    namespace: dict[str, Any] = {"config": CONFIG, "rows": CONFIG["rows"], **CONFIG["model"]}
    for expression in where.split(" or "):
        eval(expression.strip("`"), namespace)  # it is there


def test_what_is_no_key_has_no_hint() -> None:
    assert deeper_key("name 'train_shar' is not defined", CONFIG) == ""
    assert deeper_key("something else", CONFIG) == ""
    many = {"a": [{"x": n} for n in range(9)]}
    assert deeper_key("name 'x' is not defined", many).endswith(" and 6 more")


def test_a_run_tells_it(project: Project) -> None:
    project.write("f", "print(fit)", "print(train_share)")
    with pytest.raises(RunFailed, match=r'is `fit\["train_share"\]`') as e:
        project.run("f", CONFIG)
    assert e.value.run.error is not None
    assert 'fit["train_share"]' in e.value.run.html.read_text().replace("&quot;", '"')
