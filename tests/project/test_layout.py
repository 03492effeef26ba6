import pickle
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest

from ductaflow.errors import DuctaflowError, NameRefused
from ductaflow.project.layout import ArtifactPaths, instance_dir, iter_instances, iter_steps
from ductaflow.project.names import MAX_NAME, check_name
from ductaflow.project.root import find_root, main_script

# --- names


@pytest.mark.parametrize(
    "name",
    ["a", "scenario_A", "2024-01-02", "v1.2", "a b", "été", "日本", "console", "com", "com10",
     "lpt", "nullable", "aux_1", "config", "run", "x" * MAX_NAME, "(1)", "a,b;c=d'e", "😀"],
)  # fmt: skip
def test_portable_names_stay(name):
    assert check_name(name, "instance") == name


def test_names_come_back_as_plain_composed_strings():
    assert check_name("e\N{COMBINING ACUTE ACCENT}", "step") == "é"
    assert type(check_name(np.str_("a"), "step")) is str


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (None, "of type NoneType"),
        (3, "as '3'"),
        (Path("a"), "of type PosixPath|of type WindowsPath"),
        (b"a", "of type bytes"),
        (".", "already there"),
        ("..", "already there"),
        ("a/b", "separator"),
        ("/a", "separator"),
        ("a\\b", "separator"),
        ("..\\a", "separator"),
        ("a\nb", "control"),
        ("a\x00", "control"),
        ("a\x7f", "control"),
        ("a\x85", "control"),
        ("a:b", "has :, which Windows"),
        ("a*?", r"has \* \?"),
        ('"a"', "Windows refuses"),
        ("<a>", "Windows refuses"),
        ("a|b", "Windows refuses"),
        ("a.", "ends in a dot"),
        ("a ", "ends in"),
        ("a\N{NO-BREAK SPACE}", "ends in"),
        (" a", "begins with a space"),
        (".a", "begins with a dot"),
        ("CON", "device"),
        ("nul.txt", "device"),
        ("Com1", "device"),
        ("COM¹", "device"),
        ("lpt9.tar.gz", "device"),
        ("aux .txt", "device"),
        ("CONIN$", "device"),
        ("a\ud800", "surrogate"),
        ("x" * (MAX_NAME + 1), "121 bytes"),
        ("é" * MAX_NAME, "240 bytes"),
    ],
)
def test_others_are_refused_with_the_reason(name, reason):
    with pytest.raises(NameRefused, match=reason) as caught:
        check_name(name, "instance")
    assert "the instance name" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    str(caught.value).encode()  # can be printed


# --- the project root


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def project(folder, marker):
    folder.mkdir(parents=True, exist_ok=True)
    if marker.endswith("/"):
        (folder / marker).mkdir()
    else:
        name, _, text = marker.partition("=")
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "marker",
    ["ductaflow.toml", "flow/", "flows/", "pyproject.toml=[tool.ductaflow]\n",
     "pyproject.toml=[project]\nx=1\n\n[tool.ductaflow.run]\n"],
)  # fmt: skip
def test_the_nearest_project_above(home, marker):
    root = project(home / "work" / "project", marker)
    below = root / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below, None, {}) == root
    assert find_root(root, None, {}) == root


def test_other_pyprojects_are_no_project(home):
    folder = project(home / "a", "pyproject.toml=[tool.ruff]\n# [tool.ductaflow]\n")
    assert find_root(folder, None, {}) == folder
    below = folder / "b"
    below.mkdir()
    assert find_root(below, None, {}) == below


def test_what_is_asked_for_comes_first(home):
    root = project(home / "project", "flow/")
    one, two = home / "one", home / "two"
    one.mkdir()
    two.mkdir()
    assert find_root(root, one, {"DUCTAFLOW_ROOT": str(two)}) == one
    assert find_root(root, None, {"DUCTAFLOW_ROOT": str(two)}) == two
    assert find_root(root, None, {"DUCTAFLOW_ROOT": ""}) == root
    assert find_root(home, Path("one"), {}) == one


def test_then_the_scripts_folder(home):
    root = project(home / "project", "flow/")
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    assert find_root(elsewhere, None, {}, root / "conduct.py") == root
    assert find_root(elsewhere, None, {}, home / "other" / "x.py") == elsewhere
    nearer = project(elsewhere, "flows/")
    assert find_root(nearer, None, {}, root / "conduct.py") == nearer


def test_home_is_no_project_unless_one_stands_in_it(home):
    project(home, "flow/")
    below = home / "a"
    below.mkdir()
    assert find_root(below, None, {}) == below
    assert find_root(home, None, {}) == home


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_root_that_is_not_there_is_an_error(tmp_path, how):
    missing = tmp_path / "missing"
    args = (missing, {}) if how == "argument" else (None, {"DUCTAFLOW_ROOT": str(missing)})
    source = "root=" if how == "argument" else "DUCTAFLOW_ROOT"
    with pytest.raises(DuctaflowError, match=f"{source} names .*missing.* no such folder"):
        find_root(tmp_path, *args)


def test_the_main_script(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "/a/b.py", raising=False)
    assert main_script() == Path("/a/b.py")
    monkeypatch.delattr(main, "__file__")
    assert main_script() is None


# --- instances and their files


def test_an_instances_folder(tmp_path):
    assert instance_dir(tmp_path, "step", "a b") == tmp_path / "runs" / "step" / "a b"
    assert not (tmp_path / "runs").exists()
    for step, instance in [("..", "a"), ("a", "../b"), ("", "a"), ("a", "nul")]:
        with pytest.raises(NameRefused):
            instance_dir(tmp_path, step, instance)


def test_runs_itself_may_be_a_link(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "runs").symlink_to(disk)
    assert instance_dir(tmp_path, "s", "i") == tmp_path / "runs" / "s" / "i"


def test_links_out_of_runs_are_refused(tmp_path):
    runs = tmp_path / "runs"
    (runs / "s").mkdir(parents=True)
    (runs / "s" / "out").symlink_to(tmp_path)
    (runs / "out").symlink_to(tmp_path)
    (runs / "loop").symlink_to(runs / "loop")
    (runs / "s" / "within").symlink_to(runs / "s" / "other")
    for step, instance in [("s", "out"), ("out", "i"), ("loop", "i")]:
        with pytest.raises(NameRefused, match=r"outside|leads to itself"):
            instance_dir(tmp_path, step, instance)
    assert instance_dir(tmp_path, "s", "within").name == "within"


def test_instances_are_sorted_and_hidden_ones_left_out(tmp_path):
    assert list(iter_instances(tmp_path, "s")) == []
    assert list(iter_steps(tmp_path)) == []
    for name in ("b", "a", "B", ".hidden", "c/inner"):
        (tmp_path / "runs" / "s" / name).mkdir(parents=True)
    (tmp_path / "runs" / "s" / "file.txt").touch()
    (tmp_path / "runs" / "index.html").touch()
    assert [p.name for p in iter_instances(tmp_path, "s")] == sorted(["b", "a", "B", "c"])
    assert next(iter_instances(tmp_path, "s")).parent == tmp_path / "runs" / "s"
    assert list(iter_steps(tmp_path)) == ["s"]
    with pytest.raises(NameRefused):
        iter_instances(tmp_path, "..")


def test_artifact_paths(tmp_path):
    paths = ArtifactPaths.of(tmp_path, "my.flow")
    assert paths.notebook == tmp_path / "my.flow.ipynb"
    assert paths.html == tmp_path / "my.flow.html"
    assert paths.log == tmp_path / "my.flow.log"
    assert paths.config == tmp_path / "config.json"
    assert paths.record == tmp_path / "run.json"
    assert paths.lock == tmp_path / ".ductaflow.lock"
    assert {path.parent for path in paths.all()} == {paths.directory} == {tmp_path}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        paths.flow = "other"
