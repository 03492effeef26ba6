import ast
import html
import keyword
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from nbconvert.filters import markdown2html

from ductaflow.errors import ParametersCellError
from ductaflow.model.flows import INSERTED_TAGS, Cell, Flow
from ductaflow.model.plans import Note
from ductaflow.plans.cells import config_source, prepare
from ductaflow.plans.config import normalise
from ductaflow.plans.configtable import MAX_ROWS, MAX_TABLES, config_table
from ductaflow.plans.variables import MAX_ASSIGNMENTS, flatten, flatten_source

keys = (
    st.sampled_from(["a", "b", "net", "config", "class", "globals", "dict", "_", "__x__", "list"])
    | st.sampled_from(["a b", "", "1", "ﬁ", "fi", "µ", "μ", "isinstance", "In", "get_ipython"])
    | st.text(max_size=5)
)
leaves = st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)
nested = st.dictionaries(keys, leaves | st.dictionaries(keys, leaves, max_size=3), max_size=5)
configs = st.dictionaries(keys, leaves | nested, max_size=6)
many = {f"key_{i}": i for i in range(MAX_ASSIGNMENTS)}


def run(*sources):
    namespace = {}
    for source in sources:
        exec(compile(source, "cell", "exec"), namespace)
    namespace.pop("__builtins__")
    return namespace


@given(configs)
@example({"net": {"a": 1, "b": 2}, "a": 3, "more": {"b": 4}})
@example({"config": {"config": 1}, "list": 2})
def test_the_cells_make_what_flatten_tells(config):
    cells = config_source(config), flatten_source(config)
    assert run(*cells) == {**flatten(config), "config": config}
    assert run(*cells, cells[1], *cells) == {**flatten(config), "config": config}  # by hand


@given(configs)
@example({"a": "'''", "b": "\\", "c": "\ud800", "d": "\\u0027\r\n", "e": -0.0, "f": 1e400})
def test_a_config_too_long_for_a_literal_is_the_same(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ductaflow.plans.cells.MAX_LITERAL", 0)
        source = config_source(config)
    assert "loads(" in source
    assert repr(run(source)) == repr({"config": config})
    assert TransformerManager().transform_cell(source) == f"{source}\n"  # as IPython reads it


@given(configs)
@example({"None": 1, "net": {"class": 2}, "_": 3, "config": 4})
@example({"globals": 1})
def test_and_so_does_the_one_expression_for_many_keys(config):
    config = {**config, "more_keys": many}
    cells = config_source(config), flatten_source(config)
    assert run(*cells) == {**flatten(config), "config": config}
    assert run(*cells, cells[1]) == {**flatten(config), "config": config}


def test_many_keys_make_a_short_cell():
    source = flatten_source({"class": 1, **many, "another": 1})
    assert len(source.splitlines()) < 15
    assert 'key not in {"class"}' in source
    assert len(flatten_source(many).splitlines()) == MAX_ASSIGNMENTS + 1


def test_the_rule():
    config = {"a": 1, "net": {"a": 2, "b": 3, "deep": {"c": 4}}, "more": {"b": 5}, "my key": 6}
    assert flatten(config) == {
        "a": 1,
        "net": config["net"],
        "b": 5,
        "deep": {"c": 4},
        "more": {"b": 5},
    }
    assert flatten_source(config) == (
        "# The config's keys as variables.\n"
        'a = config["a"]\n'
        'net = config["net"]\n'
        'b = config["more"]["b"]\n'
        'deep = config["net"]["deep"]\n'
        'more = config["more"]'
    )


def test_names_are_as_python_reads_them():
    config = {"µ": 1}  # the micro sign; in source it means the Greek letter
    assert run(config_source(config), flatten_source(config), "y = µ")["y"] == 1


def test_a_config_without_variables_still_has_its_cell():
    assert run(config_source({}), flatten_source({})) == {"config": {}}


def test_nothing_else_is_needed():
    for source in (flatten_source({"a": 1}), flatten_source(many | {"b": {}})):
        names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        assert not names - {
            "config",
            "a",
            "globals",
            "isinstance",
            "dict",
            "key",
            "value",
            "part",
            "v",
        }
    assert not keyword.iskeyword("part")


# --- the cells in place


def flow(*cells, **metadata):
    numbered = tuple(
        Cell("code", source, number, number * 10, cell_id, {"tags": tags})
        for number, (source, tags, cell_id) in enumerate(cells, 1)
    )
    index = next((i for i, c in enumerate(numbered) if "parameters" in c.tags), None)
    return Flow(Path("/p/flow/x.py"), "x", numbered, index, metadata)


PARAMETERS = ("config = {}", ["parameters"], "p")


def test_cells_stand_where_they_belong():
    parsed = flow(("import a", [], "i"), PARAMETERS, ("x", [], "ductaflow-flatten"))
    cells = prepare(parsed, {"a": 1}, ())
    assert [(c.kind, *c.tags, c.number) for c in cells] == [
        ("markdown", "ductaflow-config", 0),
        ("code", 1),
        ("code", "parameters", 2),
        ("code", "injected-parameters", 0),
        ("code", "ductaflow-flatten", 0),
        ("code", 3),
    ]
    assert {t for c in cells for t in c.tags} - {"parameters"} <= INSERTED_TAGS
    ids = [c.id for c in cells]
    assert len(set(ids)) == len(ids)
    assert ids[4] == "ductaflow-flatten-2"
    assert cells == prepare(parsed, {"a": 1}, ())
    assert all(c.line is None for c in cells if c.number == 0)


def test_without_a_config_the_flow_stays_as_it_is():
    parsed = flow(("x", [], "a"))
    assert prepare(parsed, None, (Note("k", "m"),)) is parsed.cells


def test_a_config_needs_a_parameters_cell():
    with pytest.raises(ParametersCellError):
        prepare(flow(("x", [], "a")), {}, ())


def test_other_languages_get_their_own_source():
    cells = ("a <- 0", ["parameters"], "a"), ("a", [], "b")
    injected = prepare(flow(*cells, kernelspec={"language": "R"}), {"a": 1}, ())
    assert [c.kind for c in injected] == ["markdown", "code", "code", "code", "code"]
    assert injected[2].source.endswith('config <- list("a" = 1L)')
    assert injected[3].source.endswith("a <- 1L")


def test_a_language_that_is_not_known_gets_the_table_alone():
    parsed = flow(("1 a !", [], "a"), kernelspec={"language": "Forth"})
    assert [c.kind for c in prepare(parsed, {"a": 1}, ())] == ["markdown", "code"]


# --- the table

NASTY = [
    "<script>alert(1)</script>",
    "a|b",
    "`code` ``x",
    "$x$ \\(y\\) $$z$$",
    "line\nbreak\r\n\n# heading",
    "[link](javascript:alert(1))",
    "![img](x)",
    "*em* _em_ **b** ~~s~~",
    "&amp; &#60;",
    "http://example.org/?a=1",
    "</code></td><img src=x onerror=alert(1)>",
    "\x1b[31m\x00\ud800\u2028x",
    "{{ x }} {% raw %}",
    "\\",
    "||",
    "---",
]


def rows(markdown):
    """What a reader sees in the tables, from the HTML that nbconvert makes of them."""
    page = markdown2html(markdown)
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    for cell in cells:
        assert re.fullmatch(r"<code>[^<]*</code>", cell), cell
    shown = [html.unescape(cell[6:-7]) for cell in cells]
    return dict(zip(shown[::2], shown[1::2], strict=True))


@pytest.mark.parametrize("value", NASTY)
def test_values_and_keys_are_shown_never_interpreted(value):
    visible = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
    table = rows(config_table({"before": 1, "key": value, value: 2, "after": 3}))
    assert table == {"before": "1", "key": visible, visible: "2", "after": "3"}
    nested = markdown2html(config_table({value: {"a": 1}}, [Note("k", f"The key `{value}`.")]))
    assert "<script" not in nested
    assert "<img" not in nested
    assert 'href="javascript' not in nested


@given(st.text(min_size=1, max_size=60))
def test_any_text_keeps_its_cell(value):
    table = rows(config_table({"before": 1, "key": value, "after": 3}))
    assert list(table) == ["before", "key", "after"]


def test_kinds_of_values_can_be_told_apart():
    config = {"n": 3, "s": "3", "t": True, "u": "True", "e": "", "x": None, "l": [1, "a"], "d": {}}
    assert rows(config_table({**config, "p": "a/b"})) == {
        "n": "3", "s": "'3'", "t": "True", "u": "'True'", "e": "''", "x": "None",
        "l": "[1, 'a']", "d": "{}", "p": "a/b",
    }  # fmt: skip


def test_each_dict_has_its_heading():
    table = config_table({"a": 1, "net": {"b": 2, "deep": {"c": 3}}, "only": {"x": {"d": 4}}})
    headings = re.findall(r"<h3 id=.*?><code>(.*?)</code>", markdown2html(table))
    assert headings == ["net", "net.deep", "only.x"]
    assert rows(table) == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert "empty" in config_table({})


def test_long_things_are_shortened_and_say_so():
    config = {f"k{i:05}": i for i in range(10_000)} | {"a": "x" * 1234, "b": list(range(5000))}
    table = rows(config_table({"a": config["a"], "b": config["b"], "c": "x" * 200}))
    assert table["a"] == "x" * 200 + "… (1,234 characters)"
    assert table["b"].endswith("… (5,000 items)")
    assert table["c"] == "x" * 200
    text = config_table(config)
    assert len(rows(text)) == MAX_ROWS
    assert "… and 9,902 more: see `config.json`." in text
    text = config_table({f"d{i}": {"a": i} for i in range(1000)})
    assert len(re.findall("### ", text)) == MAX_TABLES
    assert "… and 950 more dicts" in text


def test_notes_are_a_visible_list():
    text = config_table({"a": 1}, [Note("shadow", "The variable `a` is <odd>."), Note("x", "Two.")])
    page = markdown2html(text)
    assert "<li>⚠ The variable <code>a</code> is &lt;odd&gt;.</li>" in page
    assert "<li>⚠ Two.</li>" in page


def test_a_table_can_be_written_to_a_file():
    config_table(normalise({"\ud800": "\udfff"}), [Note("k", "\ud800")]).encode()
