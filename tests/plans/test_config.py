import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import pickle
import subprocess
import sys
import types
import uuid

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ductaflow.errors import ConfigError
from ductaflow.files import jsonio
from ductaflow.plans.config import MAX_DEPTH, dotted, normalise
from ductaflow.plans.literal import to_python
from ductaflow.plans.variables import variable_name, variables

text = st.text(st.characters(codec=None))  # lone surrogates too
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(text, v, max_size=4), max_leaves=20
)
configs = st.dictionaries(text, values, max_size=6)


def same(a, b):
    """Equal in value, type and order; NaN is NaN, and -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    return a == b


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    def __str__(self):
        return "not this"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.float32("nan"), math.nan),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(3), 3),
        (np.array("x"), "x"),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.datetime64("2020-01-02T03:04:05"), "2020-01-02T03:04:05"),
        (np.datetime64("2020-01-02T03:04:05.5", "ns"), "2020-01-02T03:04:05.500000"),
        (np.datetime64("2020-01-02", "ns"), "2020-01-02T00:00:00"),
        (np.array(np.datetime64("2020-01-02")), "2020-01-02"),
        (np.datetime64("NaT", "s"), None),
        (np.timedelta64("NaT", "s"), None),
        (np.timedelta64(90, "m"), "P0DT1H30M0S"),
        (np.timedelta64(5, "25s"), "P0DT0H2M5S"),
        (pd.Timestamp("2020-01-02 03:04"), "2020-01-02T03:04:00"),
        (pd.Timestamp("2020-01-02", tz="UTC"), "2020-01-02T00:00:00+00:00"),
        (pd.Timedelta("1 day 02:03:04.5"), "P1DT2H3M4.5S"),
        (pd.Timedelta(12, "ns"), "P0DT0H0M0.000000012S"),
        (pd.NaT, None),
        (pd.NA, None),
        (dt.date(2020, 1, 2), "2020-01-02"),
        (dt.datetime(2020, 1, 2, 3, tzinfo=dt.timezone.utc), "2020-01-02T03:00:00+00:00"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(days=-1, seconds=1), "-P0DT23H59M59S"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Colour.PAIR, [1, 2]),
        (Level.HIGH, 3),
        (Text("x"), "x"),
        (Point(1, (2, 3)), [1, [2, 3]]),
        (range(3), [0, 1, 2]),
        (collections.deque([1, (2,)]), [1, [2]]),
        (collections.UserList("ab"), ["a", "b"]),
        (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (-0.0, -0.0),
        (math.inf, math.inf),
        pytest.param(10**1000, 10**1000, id="big"),
        ("\ud800", "\ud800"),
        (None, None),
    ],
)
def test_converts_to_the_exact_builtin(value, expected):
    assert same(normalise({"k": value}), {"k": expected})
    assert same(normalise({"k": [{"j": value}]}), {"k": [{"j": expected}]})


def test_a_row_of_a_table_is_a_config():
    frame = pd.DataFrame({"a": [1], "b": ["x"], "c": [0.5]})
    assert same(normalise(frame.iloc[0]), {"a": 1, "b": "x", "c": 0.5})
    assert same(normalise(next(frame.iterrows())[1].to_dict()), {"a": 1, "b": "x", "c": 0.5})


@dataclasses.dataclass
class Data:
    x: int = 1


@attrs.frozen
class Fact:
    x: int = 1


@pytest.mark.parametrize(
    ("value", "named", "advice"),
    [
        (np.arange(3), "numpy.ndarray", ".tolist()"),
        (np.zeros((2, 2)), "numpy.ndarray", ".tolist()"),
        (np.ma.masked, "MaskedConstant", "give None"),
        (np.array(object()), "object", "in its place"),
        (Fact, "type", "in its place"),
        (memoryview(b"x"), "memoryview", ".tolist()"),
        (np.void(b"a"), "numpy.void", "in its place"),
        (np.complex64(1j), "complex64", "z.real"),
        (np.bytes_(b"a"), "bytes_", ".decode()"),
        (np.timedelta64(1, "M"), "timedelta64", "no fixed length"),
        (pd.Series([1]), "pandas.Series", ".tolist()"),
        (pd.Index([1]), "pandas.Index", ".tolist()"),
        (pd.DataFrame({"a": [1]}), "pandas.DataFrame", "give its path"),
        (pd.Period("2020"), "Period", "str("),
        ({1, 2}, "set", "sorted("),
        (frozenset(), "frozenset", "sorted("),
        (b"x", "bytes", ".decode()"),
        (1j, "complex", "z.real"),
        (decimal.Decimal(1), "decimal.Decimal", "float("),
        (uuid.UUID(int=1), "uuid.UUID", "str("),
        ((i for i in "ab"), "generator", "list("),
        ({}.keys(), "dict_keys", "list("),
        (Data(), "Data", "dataclasses.asdict"),
        (Fact(), "Fact", "attrs.asdict"),
        (print, "builtin", "in its place"),
        (object(), "object", "in its place"),
        pytest.param(10**5000, "integer", "hex(", id="huge"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place(value, named, advice):
    with pytest.raises(ConfigError) as caught:
        normalise({"a": {"b": [0, 1, {"c": value}]}})
    message = str(caught.value)
    assert "`a.b[2].c`" in message
    assert named in message
    assert advice in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


@pytest.mark.parametrize("key", [3, None, (1, 2), 1.5, b"x"])
def test_keys_are_strings(key):
    with pytest.raises(ConfigError, match=r"`a\[0\]` has the key .* keys in a config are strings"):
        normalise({"a": [{key: 1}]})


def test_string_subclasses_as_keys_become_strings():
    result = normalise({np.str_("a"): 1, Colour.RED.value: 2})
    assert [type(k) for k in result] == [str, str]


@pytest.mark.parametrize("config", [[1], None, "a", pd.DataFrame({"a": [1]})])
def test_the_config_itself_is_a_mapping(config):
    with pytest.raises(ConfigError, match=r"the config is of type .*; give a dict"):
        normalise(config)


def test_a_config_cannot_hold_itself():
    inner: list = []
    inner.append({"again": inner})
    with pytest.raises(ConfigError, match=r"`a\[0\]\.again` .* cannot hold itself"):
        normalise({"a": inner})
    shared = [1]
    assert normalise({"a": shared, "b": [shared, shared]}) == {"a": [1], "b": [[1], [1]]}


def test_depth_ends_in_an_error_of_ours():
    def nested(levels):
        config = 1
        for _ in range(levels):
            config = {"a": config}
        return config

    deepest = normalise(nested(MAX_DEPTH))
    assert same(eval(to_python(deepest)), deepest)
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ConfigError, match="deeper than 100 levels"):
            normalise(nested(levels))


def test_the_result_shares_nothing():
    config = {"a": [1], "b": {}}
    result = normalise(config)
    result["a"].append(2)
    result["b"]["c"] = 1
    assert config == {"a": [1], "b": {}}


def test_dotted():
    assert dotted(("a", "b", 2, "c")) == "a.b[2].c"
    assert dotted(("a b", "c")) == "['a b'].c"


@given(configs)
def test_normalised_configs_stay_as_they_are(config):
    assert same(normalise(config), config)


@given(configs)
def test_config_json_holds_exactly_the_config(config):
    assert same(json.loads(jsonio.dumps(config)), config)


@given(configs)
def test_python_text_equals_the_config(config):
    source = to_python(config)
    assert same(eval(source, {"__builtins__": {"float": float}}), config)
    source.encode()  # can be written to a file
    assert source.splitlines() == source.split("\n")


def test_python_text_is_made_to_be_read():
    config = {
        "name": "scenario 'é'",
        "quote": 'say "hi"',
        "rate": -0.0,
        "limits": [float("-inf"), float("nan")],
        "network": {"base": True, "zones": list(range(40)), "none": {}},
        "stops": [{"id": 1}],
    }
    assert to_python(config) == (
        "{\n"
        '    "name": "scenario \'é\'",\n'
        '    "quote": "say \\"hi\\"",\n'
        '    "rate": -0.0,\n'
        '    "limits": [-float("inf"), float("nan")],\n'
        '    "network": {\n'
        '        "base": True,\n'
        '        "zones": [\n'
        "            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,\n"
        "            21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,\n"
        "        ],\n"
        '        "none": {},\n'
        "    },\n"
        '    "stops": [\n'
        "        {\n"
        '            "id": 1,\n'
        "        },\n"
        "    ],\n"
        "}"
    )


def test_variables_name_where_their_values_are():
    config = {"a": 1, "net": {"a": 2, "b": 3, "deep": {"c": 4}}, "more": {"b": 5}, "class": 6}
    assert variables(config) == {
        "a": ("a",),
        "net": ("net",),
        "b": ("more", "b"),
        "deep": ("net", "deep"),
        "more": ("more",),
    }


def test_which_keys_become_variables():
    for key in ("", "a b", "1a", "class", "None", "config", "__name__", "_", "_3", "_i", "_ih"):
        assert variable_name(key) is None
    for key in ("a", "_private", "list", "match", "In", "été"):
        assert variable_name(key) == key
    assert variable_name("\N{MICRO SIGN}") == "\N{GREEK SMALL LETTER MU}"  # as Python reads it


def test_needs_neither_numpy_nor_pandas():
    code = (
        "import sys, ductaflow.plans.config as c, ductaflow.plans.cells, "
        "ductaflow.plans.notes, ductaflow.project.layout\n"
        "c.normalise({'a': 1})\n"
        "heavy = {'numpy', 'pandas', 'IPython', 'jupytext', 'nbformat'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
