import time

import pytest

from ductaflow.flows.reading import read_flow
from ductaflow.plans.notes import config_notes

HEADER = '# %% tags=["parameters"]\nconfig = {default}\n\n'


@pytest.fixture
def notes(tmp_path):
    def notes(config, code="", default="{}", name="x.py"):
        path = tmp_path / name
        path.write_text(HEADER.replace("{default}", default) + "# %%\n" + code + "\n")
        return config_notes(read_flow(path), config)

    return notes


def kinds(notes):
    return [(note.kind, note.key) for note in notes]


# --- names


def test_collisions(notes):
    found = notes({"a": 1, "x": {"a": 2, "b": 3}, "y": {"b": 4}}, "a, b, x, y")
    assert kinds(found) == [("collision", "a"), ("collision", "y.b")]
    assert 'variable `a` holds `config["a"]`; `config["x"]["a"]`' in found[0].message
    assert 'variable `b` holds `config["y"]["b"]`; `config["x"]["b"]`' in found[1].message


def test_shadows(notes):
    config = {
        "list": 1,
        "config": 2,
        "net": {"max": 3, "__name__": 4},
        "In": 5,
        "_": 6,
        "license": 7,
    }
    found = notes(config, "list, max, __name__, In, _, license")
    assert kinds(found) == [
        ("shadow", "list"),
        ("shadow", "config"),
        ("shadow", "net.max"),
        ("shadow", "net.__name__"),
        ("shadow", "In"),
        ("shadow", "_"),
    ]
    assert "takes the place of Python's own `list`" in found[0].message
    assert "is not made a variable" in found[1].message


def test_keys_that_are_no_names(notes):
    config = {
        "my key": 1,
        "class": 2,
        "net": {"a": 1, "b": 2, "c-d": 3},
        "zones": {str(i): i for i in range(50)},
    }
    found = notes(config, "f(config)")
    assert kinds(found) == [
        ("not-identifier", "['my key']"),
        ("not-identifier", "class"),
        ("not-identifier", "net['c-d']"),
    ]
    assert 'config["my key"]' in found[0].message


# --- unused keys


@pytest.mark.parametrize(
    "code",
    [
        "print(speed)",
        "x = config['speed']",
        "x = config.get('speed', 1)",
        "df.query('v > @speed')",
        "f'{speed}'",
        "f(speed=1)",
        "x.speed",
        "# !run --speed {speed}",
        "x = 1\n\n# %% language='bash'\n# run $speed",
        "# %%time\ny = speed",
        "x = %who speed",
        "def f(speed): pass",
    ],
)
def test_mentioned(notes, code):
    assert notes({"speed": 1}, code) == ()


@pytest.mark.parametrize("code", ["x = 1  # speed", "# speed is a comment\nx = 1", "speeds = 1"])
def test_not_mentioned(notes, code):
    (note,) = notes({"speed": 1}, code)
    assert (note.kind, note.key) == ("unused-key", "speed")


def test_the_nearest_name_is_told(notes):
    (note,) = notes({"sped": 1}, "print(speed)")
    assert note.message == "The flow never mentions the key `sped`; is `speed` meant?"
    (note,) = notes({"sped": 1}, "x = config", default="{'spd': 1}")
    assert note.kind == "unknown-key"  # the flow looks at them all, so it may mention any
    assert note.message == "The flow's default has no key `sped`; is `spd` meant?"
    (note,) = notes({"sped": 1}, "spread = 1", default="{'speed': 1}")
    assert "`speed`" in note.message  # the default's keys come first
    (note,) = notes({"zzzz": 1}, "print(speed)")
    assert note.message == "The flow never mentions the key `zzzz`."


def test_keys_that_are_no_words_are_looked_for_in_strings(notes):
    found = notes({"my-key": 1, "no-key": 2}, "x = config['my-key']")
    assert [n.key for n in found if n.kind == "unused-key"] == ["['no-key']"]


@pytest.mark.parametrize(
    "code",
    [
        "run(config)",
        "run(**config)",
        "run(x=config)",
        "for k, v in config.items():\n    do(k, v)",
        "x = {k: v for k, v in config.items()}",
        "cfg = config",
        "x = config[name]",
        "x = [config]",
        "x = config | other",
        "def f():\n    return config",
    ],
)
def test_no_key_is_unused_where_the_config_is_used_as_a_whole(notes, code):
    assert notes({"speed": 1}, code) == ()


@pytest.mark.parametrize(
    "code",
    [
        "globals().update(config)",
        "locals().update(config)",
        "globals().update({k: v for k, v in config.items() if k.isidentifier()})",
        "for k, v in config.items():\n    globals()[k] = v",
        "for k, v in config.items():\n  locals()[k] = v\n  for i, w in v.items(): locals()[i] = w",
        "for key in config:\n    exec(f'{key} = config[key]')",
        "[globals().__setitem__(k, v) for k, v in config.items()]",
        "unpack_config(config, 'net', locals())",
        "print(config)",
        "display(config)",
        "len(config)",
        "if 'other' in config:\n    pass",
        "config['other'] = 1",
        "config.update({'other': 1})",
    ],
)
def test_a_flows_own_flattening_and_looks_at_it_are_no_use_of_it(notes, code):
    assert kinds(notes({"speed": 1}, code)) == [("unused-key", "speed")]


def test_nested_keys(notes):
    config = {"net": {"speed": 1, "sped": 2}}
    assert kinds(notes(config, "speed")) == [("unused-key", "net.sped")]
    assert kinds(notes(config, "config['net']['speed']")) == [("unused-key", "net.sped")]
    assert kinds(notes(config, "net['speed']")) == [("unused-key", "net.sped")]
    assert kinds(notes(config, "x = 1")) == [("unused-key", "net")]
    assert notes(config, "run(net)\nspeed") == ()
    assert notes(config, "run(config['net'])\nspeed") == ()
    assert notes(config, "net[name]\nspeed") == ()
    found = notes(config, "net['x']", default="{'net': {'speed': 1}}")
    assert kinds(found) == [("unused-key", "net.sped")]
    assert "is `speed` meant?" not in found[0].message  # it is given as well
    (note,) = notes({"net": {"sped": 2}}, "net['x']", default="{'net': {'speed': 1}}")
    assert "is `speed` meant?" in note.message


def test_data_makes_no_notes(notes):
    zones = {f"zone_{i}": i for i in range(1000)}
    assert notes({"zones": zones}, "for z, v in zones.items():\n    pass") == ()
    assert notes({"zones": zones}, "config['zones'][z]") == ()
    assert notes({"zones": {str(i): i for i in range(1000)}}, "zones[z]") == ()


def test_many_are_summed_up(notes):
    found = notes({f"key{i}": i for i in range(25)}, "x = 1")
    assert len(found) == 1
    assert found[0].kind == "unused-key"
    assert found[0].message.startswith(
        "25 keys of the config are never mentioned by the flow: `key0`"
    )
    assert found[0].message.endswith("and 15 more.")
    assert len(notes({f"key{i}": i for i in range(10)}, "x = 1")) == 10


def test_code_that_is_no_python_is_searched_as_text(notes):
    assert notes({"speed": 1}, "x = = speed") == ()
    (note,) = notes({"speed": 1, "list": 2}, "y <- config$list", name="x.R")
    assert (note.kind, note.key) == ("unused-key", "speed")


def test_large_configs_are_quick(notes):
    code = "\n".join(f"name_{i} = {i}" for i in range(500))
    config = {f"other_{i}": {"a": i, "b": 1} for i in range(5000)}
    notes({}, code)
    started = time.perf_counter()
    notes(config, code)
    assert time.perf_counter() - started < 2
