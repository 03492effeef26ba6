"""Control tables, grids, names and configs: what is decided before anything runs."""

from __future__ import annotations

import itertools
import math
import pickle
import re
from datetime import datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ductaflow import ConfigError, NameRefused, TableError, grid, zip_grid
from ductaflow.project.names import check_name
from ductaflow.sweeps.tasks import Tasks, name_from, plan_tasks
from ductaflow.tables.table import read_table
from ductaflow.tables.template import fill

ROWS = [
    {"instance_name": "a", "base": 1, "params.x": 0.5, "params.mode": "fast"},
    {"instance_name": "b", "base": 2, "params.x": 1.5, "params.mode": "slow"},
]


def tasks_of(source: object, **options: object) -> Tasks:
    return plan_tasks(read_table(source, Path.cwd()), **options)  # type: ignore[arg-type]


# --- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [ROWS, tuple(ROWS), pd.DataFrame(ROWS), pl.DataFrame(ROWS), pl.DataFrame(ROWS).lazy()],
    ids=["list", "tuple", "pandas", "polars", "lazy"],
)
def test_every_kind_of_table_says_the_same(source: object) -> None:
    tasks = list(tasks_of(source))
    assert [task.instance for task in tasks] == ["a", "b"]
    assert [task.config for task in tasks] == [
        {"base": 1, "params": {"x": 0.5, "mode": "fast"}},
        {"base": 2, "params": {"x": 1.5, "mode": "slow"}},
    ]
    assert [type(task.config["base"]) for task in tasks] == [int, int]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_files(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame([*ROWS, {"instance_name": "c", "base": None}])
    frame = frame.astype({"base": "Int64"}).assign(f=[1.0, 2.5, None])
    file = tmp_path / f"control.{suffix}"
    if suffix == "csv":
        frame.to_csv(file, index=False)
    elif suffix == "parquet":
        frame.to_parquet(file)
    else:
        frame.to_excel(file, index=False)
    tasks = list(tasks_of(file))
    assert [task.config.get("base", "default") for task in tasks] == [1, 2, "default"]
    assert [type(task.config["base"]) for task in tasks[:2]] == [int, int]
    assert [(type(x), x) for x in (task.config["f"] for task in tasks[:2])][1:] == [(float, 2.5)]
    assert tasks[2].config == {}


def test_not_a_number_stays_what_it_is() -> None:
    frame = pd.DataFrame({"instance_name": ["a"], "x": [float("nan")], "y": [math.inf]})
    (task,) = tasks_of(frame)
    assert math.isnan(task.config["x"])
    assert task.config["y"] == math.inf


def test_a_file_holds_what_it_holds(tmp_path: Path) -> None:
    arrow = pyarrow.table(
        {
            "instance": ["a", "b"],
            "nan": [math.nan, None],
            "list": [[1, 2], [[3][0]]],
            "struct": [{"x": 1}, {"x": None}],
            "when": [datetime(2024, 1, 1), None],  # noqa: DTZ001
        }
    )
    pyarrow.parquet.write_table(arrow, tmp_path / "control.parquet")
    first, second = tasks_of(tmp_path / "control.parquet")
    assert math.isnan(first.config.pop("nan"))
    assert first.config == {"list": [1, 2], "struct": {"x": 1}, "when": "2024-01-01T00:00:00"}
    assert second.config == {"list": [3], "struct": {"x": None}}  # an empty cell says nothing
    (tmp_path / "control.csv").write_text(
        "instance,i,f,yes,day\na,1,1.0,true,2024-01-01\nb,,2.5,,\n"
    )
    first, second = tasks_of(tmp_path / "control.csv")
    assert repr(first.config) == "{'i': 1, 'f': 1.0, 'yes': True, 'day': '2024-01-01'}"
    assert second.config == {"f": 2.5}


class Frame(pd.DataFrame):
    """As geopandas' data frames are one of pandas'."""

    __module__ = "geopandas.geodataframe"


def test_a_kind_of_data_frame_is_one() -> None:
    assert [t.instance for t in tasks_of(Frame(ROWS))] == ["a", "b"]


@pytest.mark.parametrize("empty", [None, math.nan, pd.NA, pd.NaT, ""])
def test_an_empty_name_is_told_with_its_row(empty: object) -> None:
    rows = [{"instance": "a"}, {"instance": empty}]
    with pytest.raises(NameRefused, match="row 1 of the control table"):
        tasks_of(rows)
    with pytest.raises(NameRefused, match=r"row 1 .* empty"):
        tasks_of(pd.DataFrame({"instance": ["a", empty]}))


def test_an_index_names_the_instances() -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["n1", "n2"], name="scenario"))
    assert [t.instance for t in tasks_of(frame)] == ["n1", "n2"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no rows"),
        (pd.DataFrame({"a": []}), "no rows"),
        ("missing.csv", "no control table"),
        ("notes.txt", "no control table that can be read"),
        (7, "cannot be made of int"),
        ({"a": [1]}, "cannot be made of dict"),
        ([1, 2], "row 0 .* of type int"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column a"),
    ],
)
def test_what_is_no_table(source: object, message: str) -> None:
    with pytest.raises(TableError, match=message):
        list(tasks_of(source))


def test_a_damaged_file_says_which(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(TableError, match=r"bad\.parquet cannot be read"):
        tasks_of(tmp_path / "bad.parquet")


def test_a_generator_is_consumed_row_by_row() -> None:
    taken = []

    def rows():
        for number in itertools.count():
            taken.append(number)
            yield {"instance": f"i{number}", "x": number}

    tasks = tasks_of(rows())
    assert taken == []
    assert [t.instance for t in itertools.islice(tasks, 3)] == ["i0", "i1", "i2"]
    assert taken == [0, 1, 2]
    twice = ({"instance": "same"} for _ in range(2))
    with pytest.raises(TableError, match=r"rows 0 and 1 .* both named 'same'"):
        list(tasks_of(twice))


def test_tables_pickle() -> None:
    table = read_table(pd.DataFrame(ROWS), Path.cwd())
    assert list(pickle.loads(pickle.dumps(table)).rows()) == list(table.rows())


# --- grids ------------------------------------------------------------------------------------


def test_a_grid_is_a_product_whose_last_key_varies_fastest() -> None:
    rows = grid(seed=range(2), mode=["a", "b"], fixed="x", p={"q": [1.5, 2.5], "r": 7})
    assert len(rows) == 8
    assert rows[0] == {"seed": 0, "mode": "a", "fixed": "x", "p": {"q": 1.5, "r": 7}}
    assert rows[1]["p"]["q"] == 2.5
    assert rows[-1] == rows[7] == list(rows)[7]
    assert rows[2:4] == list(rows)[2:4]
    names = [task.instance for task in tasks_of(rows)]
    assert names[:2] == ["seed=0,mode=a,q=1.5", "seed=0,mode=a,q=2.5"]
    assert len(set(names)) == 8
    with pytest.raises(IndexError):
        rows[8]


def test_grids_add_up_multiply_and_zip() -> None:
    both = grid(a=[1, 2]) + zip_grid(a=[7, 8], b=["x", "y"])
    assert list(both) == [{"a": 1}, {"a": 2}, {"a": 7, "b": "x"}, {"a": 8, "b": "y"}]
    assert [t.instance for t in tasks_of(both)] == ["a=1", "a=2", "a=7,b=x", "a=8,b=y"]
    crossed = grid(a=[1, 2]) * zip_grid(b=[3, 4], c=[5, 6])
    assert [tuple(row.values()) for row in crossed] == [(1, 3, 5), (1, 4, 6), (2, 3, 5), (2, 4, 6)]
    assert list(zip_grid(a=[1, 2], b=9)) == [{"a": 1, "b": 9}, {"a": 2, "b": 9}]


def test_a_grid_of_a_million_takes_no_time() -> None:
    rows = grid(a=range(1000), b=range(1000))
    assert rows[-1] == {"a": 999, "b": 999}
    assert repr(rows) == "<Grid of 1000000 over a, b>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid(a=[], b=[1]), "key a has no values"),
        (lambda: zip_grid(a=[1, 2], b=[1, 2, 3]), "a has 2, b has 3"),
        (lambda: grid(a=[1]) * grid(a=[2]), "both grids have the key a"),
    ],
)
def test_what_is_no_grid(make: object, message: str) -> None:
    with pytest.raises(TableError, match=message):
        make()  # type: ignore[operator]


_NUMBER = re.compile(r"^\W*\d+\W*$")


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=5),
        st.lists(
            # A number and its digits as text are one name, which a sweep refuses.
            st.integers()
            | st.text(max_size=200).filter(lambda t: not _NUMBER.search(t))
            | st.none(),
            min_size=1,
            unique_by=repr,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_the_names_of_a_grid_are_unique_folders(values: dict[str, list[object]]) -> None:
    names = [name_from(dict(row)) for row in itertools.islice(grid(**values), 200)]
    assert len({name.casefold() for name in names}) >= len(
        {repr(row).casefold() for row in itertools.islice(grid(**values), 200)}
    )
    assert all(check_name(name, "instance") for name in names)


# --- names ------------------------------------------------------------------------------------


def test_names_by_column_format_and_function() -> None:
    rows = [{"region": "north", "year": 2030, "p.q": 1.25}]
    named = {
        "region": "north",
        "{region}_{year:05d}_{p.q}": "north_02030_1.25",
        "year": "2030",
    }
    for spec, name in named.items():
        assert [t.instance for t in tasks_of(rows, instance=spec)] == [name]
    made = tasks_of(rows, instance=lambda row: f"{row['region']}!".strip("!"))
    assert [t.instance for t in made] == ["north"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"instance": "bse"}, TableError, "no column 'bse'; did you mean 'base'"),
        ({"instance": "{bse}"}, TableError, r"field \{bse\}.*did you mean 'base'"),
        ({"instance": "{}"}, TableError, "without a name"),
        ({"instance": "{base"}, TableError, "not a format string"),
        ({"instance": lambda row: row["nope"]}, TableError, "failed on row 0.*KeyError"),
        ({"instance": lambda row: "a/b"}, NameRefused, "row 0 .*path separator"),
        ({"instance": lambda row: None}, NameRefused, "row 0 .*type NoneType"),
        ({"instance": lambda row: "same"}, TableError, "rows 0 and 1 .* both named 'same'"),
        ({"instance": lambda row: "xX"[row["base"] - 1]}, TableError, "rows 0 and 1"),
        ({"config": ["bas"]}, TableError, "no column 'bas'; did you mean 'base'"),
        ({"config": {"k": "bas"}}, TableError, "no column 'bas'"),
        ({"config": lambda row: 1 / 0}, TableError, "config= failed on row 0.*ZeroDivision"),
        ({"config": lambda row: {"k": {1, 2}}}, ConfigError, r"row 0 .*\(a\).*`k`.*set"),
        ({"only": "z*"}, TableError, "matches none of 2 instances"),
        (
            {"only": ["a", "bb"]},
            TableError,
            "only='bb' matches none of 2",
        ),
        ({"only": lambda row: False}, TableError, "selects none of the 2 instances"),
        ({"target": lambda name, row: "out/x"}, TableError, "rows 0 and 1 .*both be delivered"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tasks_of(ROWS, **options)


def test_a_long_row_does_not_name_itself() -> None:
    with pytest.raises(TableError, match="say what names the instances"):
        tasks_of([{f"k{i}": i for i in range(9)}])


def test_only_and_limit() -> None:
    rows = [{"instance": f"n{i}", "x": i} for i in range(10)]
    assert [t.instance for t in tasks_of(rows, only=["n3", "n[78]"])] == ["n3", "n7", "n8"]
    assert [t.number for t in tasks_of(rows, only=lambda row: row["x"] > 5, limit=2)] == [6, 7]
    assert [t.number for t in tasks_of(iter(rows), only="n[4-9]", limit=2)] == [4, 5]
    assert tasks_of(rows, limit=0).count == len(list(tasks_of(rows, limit=0))) == 0


# --- configs ----------------------------------------------------------------------------------


def test_a_config_by_columns_mapping_and_function() -> None:
    (first, _) = tasks_of(ROWS, config=["base", "params.x"])
    assert first.config == {"base": 1, "params": {"x": 0.5}}
    (first, _) = tasks_of(ROWS, config=["params"])
    assert first.config == {"params": {"x": 0.5, "mode": "fast"}}
    mapping = {"net.base": "base", "twice": lambda row: row["base"] * 2, "fixed": 3}
    (first, _) = tasks_of(ROWS, config=mapping)
    assert first.config == {"net": {"base": 1}, "twice": 2, "fixed": 3}
    (first, _) = tasks_of(ROWS, config=lambda row: {"all": dict(row)})
    assert first.config["all"]["params.x"] == 0.5


def test_columns_that_cannot_stand_together() -> None:
    for row in ({"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}):
        with pytest.raises(TableError, match="'a"):
            tasks_of([{"instance": "i", **row}])


def test_a_template_takes_an_empty_field_for_a_mistake() -> None:
    for empty in (None, "", float("nan"), pd.NA):
        with pytest.raises(TableError, match="is empty here"):
            fill("x/{client}", {"client": empty}, "export_to")
    with pytest.raises(TableError, match="Unknown format code"):
        fill("{a:d}", {"a": "x"}, "instance")
