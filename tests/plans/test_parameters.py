"""What a parameters cell gives by default, read without running it."""

from __future__ import annotations

import pytest

from ductaflow.errors import ConfigError
from ductaflow.flows.reading import read_flow
from ductaflow.plans.parameters import complete, left_alone, read_defaults
from ductaflow.plans.variables import flatten_source


@pytest.fixture
def flow_of(tmp_path):
    def flow_of(source, name="x.py"):
        path = tmp_path / name
        path.write_text(f'# %% tags=["parameters"]\n{source}\n', "utf-8")
        return read_flow(path)

    return flow_of


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("config = {'a': 1, 'b': [-1.5, None]}", {"a": 1, "b": [-1.5, None]}),
        ("# why\nx = 1\nconfig: dict = {}", {"x": 1}),
        ("alpha = 0.1\nregion: str = 'x'\nn = -3", {"alpha": 0.1, "region": "x", "n": -3}),
        ("config = {'a': 1}\nb = 2", {"a": 1, "b": 2}),
        ("config = {'a': 1}\na = 2", {"a": 1}),
        ("a = b = True\nc, d = 1, 'x'", {"a": True, "b": True, "c": 1, "d": "x"}),
        ("a = 1\na = 2", {"a": 2}),
        ("a = f()\na = 2", {"a": 2}),
        ("a = 1\na = f(a)", {}),
        ("a = 1\na += 1", {}),
        ("a = 1\nif True:\n    a = 2", {}),
        ("a = 1\ndel a", {}),
        ("a = 1\nimport numpy as a", {}),
        ("a = [1]\na.append(2)", {}),
        ("a = [1]\na[0] = 2", {}),
        ("a = [1]\nb = a", {}),
        ("a = [1]\nchange(a)", {}),
        ("a = [[1]]\na[0].append(2)", {}),
        ("a = [1, 2]\nb = len(a)\nc = a[0]\nd = [x for x in a]", {"a": [1, 2]}),
        ("alpha = 0.1\nbeta = alpha * 2", {"alpha": 0.1}),
        ("a = 60 * 60\nb = f'{a}'\nc = Path('x')\nd = {1, 2}\ne = b'x'\nf = {1: 2}", {}),
        ("a: float\nb: int = 3", {"b": 3}),
        ("import os\nfor i in range(3):\n    pass\ndef g():\n    z = 1\n", {}),
        ("%matplotlib inline\na = 1", {"a": 1}),
        ("shape = (3, 4)", {"shape": [3, 4]}),
        ("config = None\na = 1", {"a": 1}),
        ("_ = 1\n__x__ = 2\nget_ipython = 3", {}),
        ("config = {'a': 1}\na_half = config['a'] / 2", {"a": 1}),
        ("", {}),
    ],
)
def test_what_is_assigned_literally_is_the_default(flow_of, source, values):
    known = read_defaults(flow_of(source))
    assert known.values == values
    assert known.unread == ""
    assert complete(flow_of(source), None) == values


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("config = {'a': f()}", "not a literal"),
        ("config = {'a': 1}\nconfig['b'] = 2", "goes on to change it"),
        ("config = {'a': {}}\nfill(config)", "goes on to change it"),
        ("config = {3: 1}", "keys in a config are strings"),
        ("config = {1, 2}", "it is not a mapping"),
        ("config", "does not assign it"),
        ("config = {", "not Python that compiles"),
    ],
)
def test_a_config_that_cannot_be_read_is_replaced(flow_of, source, why):
    flow = flow_of(source)
    assert why in read_defaults(flow).unread
    assert complete(flow, {"z": 1}) == {"z": 1}
    with pytest.raises(ConfigError, match="no config was given"):
        complete(flow, None)


def test_what_is_given_goes_over_the_default(flow_of):
    flow = flow_of("config = {'a': 1, 'net': {'x': 1, 'y': [1, 2]}}\nalpha = 0.1")
    given = {"net": {"y": [3]}, "alpha": 5, "new": None}
    assert complete(flow, given) == {
        "a": 1, "net": {"x": 1, "y": [3]}, "alpha": 5, "new": None,
    }  # fmt: skip
    assert complete(flow, given, defaults=False) == given
    assert complete(flow, {"net": None})["net"] is None
    assert read_defaults(flow).values["net"] == {"x": 1, "y": [1, 2]}


def test_the_flattening_leaves_the_cells_own_variables_alone(flow_of):
    flow = flow_of("shape = (3, 4)\nbeta = f()\ndepth = 10\nz: int\nconfig = {'m': {}}")
    own = read_defaults(flow).own
    assert own == {"shape": [3, 4], "beta": ..., "depth": ...}
    base = complete(flow, {"m": {"beta": 1, "depth": 2, "z": 3}})
    assert left_alone(own, base) == {"shape", "beta"}
    lines = flatten_source(base, left_alone(own, base)).splitlines()[1:]
    assert lines == ['m = config["m"]', 'depth = config["depth"]', 'z = config["m"]["z"]']
    assert left_alone(own, complete(flow, {"shape": [3], "beta": 2})) == frozenset()
    assert left_alone(own, complete(flow, {"shape": [True, 4]})) == {"beta"}
    assert left_alone(own, {"m": {"depth": 2}}) == {"beta", "depth", "shape"}


def test_a_variable_that_the_cell_takes_from_config_is_had_anew(flow_of):
    flow = flow_of("config = {'m': {'depth': 2}}\ndepth = config['m']['depth']")
    assert "depth" not in read_defaults(flow).own


def test_a_parameter_called_config(flow_of):
    known = read_defaults(flow_of("config = 'prod.yaml'\na = 1"))
    assert known.is_parameter
    assert known.values == {"config": "prod.yaml", "a": 1}
