"""Contracts of the house: who imports whom, what is public, what an import costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import ductaflow_kernels
import ductaflow_kernels.errors
import pytest

import ductaflow
import ductaflow.errors
import ductaflow.events
from ductaflow.history.entries import Entry
from ductaflow.history.run import Run
from ductaflow.history.runs import Runs
from ductaflow.model.records import RunRecord, Status
from ductaflow.project.layout import ArtifactPaths

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent.parent
PACKAGES = {
    package.__name__: Path(package.__file__).parent for package in (ductaflow, ductaflow_kernels)
}
CONTRACTS = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
    "contracts"
]
INSIDE = PACKAGES["ductaflow_kernels"] / "inside" / "ductaflow_inside"
INSIDE_FILES = sorted(INSIDE.rglob("*.py"))
# Not in pyproject.toml: import-linter finds only packages that are on its path, where a kernel's
# interpreter must not find this one.
INSIDE_LAYERS = [
    {"start"},
    {"zygote"},
    {"boot", "foreign"},
    {"kernel"},
    {"instance"},
    {"ahead", "observing"},
    {"lifeline", "names", "packages", "requirements", "warned"},
]


# --- who imports whom -------------------------------------------------------------------------


def of_type(kind):
    return [
        pytest.param(contract, id=contract["name"])
        for contract in CONTRACTS
        if contract["type"] == kind
    ]


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name; plain folders in it are data."""
    folder = PACKAGES[package]
    found = {}
    for file in folder.rglob("*.py"):
        parts = file.relative_to(folder).with_suffix("").parts
        inits = (folder.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts)))
        if all(map(Path.exists, inits)):
            found[".".join((package, *parts)).removesuffix(".__init__")] = file
    return found


MODULES = {name: file for package in PACKAGES for name, file in modules(package).items()}


def imports(tree: ast.AST, *, nested: bool = True) -> Iterator[str]:
    """What a module imports when it runs: at its top, or also in its functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the house imports by full names"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imports(ast.Module(node.orelse, []), nested=nested)
        elif nested or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, nested=nested)


def imported(file: Path, *, nested: bool = True) -> set[str]:
    return set(imports(ast.parse(file.read_text("utf-8")), nested=nested))


IMPORTS = {name: imported(file) for name, file in MODULES.items()}


def under(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def edges(sources, targets) -> list[str]:
    """Imports of any of `targets` by any of `sources`."""
    return [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if any(under(module, source) for source in sources)
        for name in names
        if any(under(name, target) for target in targets)
    ]


@pytest.mark.parametrize("contract", of_type("layers"))
def test_imports_point_down_only(contract):
    (container,) = contract["containers"]
    rows = [[f"{container}.{m}" for m in row.split(" | ")] for row in contract["layers"]]
    upward = [
        edge
        for above, row in enumerate(rows)
        for below in rows[above + 1 :]
        for edge in edges(below, row)
    ]
    sideways = [
        edge
        for row in rows
        for one, other in combinations(row, 2)
        for edge in [*edges([one], [other]), *edges([other], [one])]
    ]
    assert upward + sideways == []


@pytest.mark.parametrize("contract", of_type("layers"))
def test_every_module_has_a_layer(contract):
    (container,) = contract["containers"]
    placed = {module for row in contract["layers"] for module in row.split(" | ")}
    placed |= set(contract.get("exhaustive_ignores", ()))
    there = {name.split(".")[1] for name in modules(container) if "." in name}
    assert there == placed


def test_the_map_names_every_module_in_its_wing():
    rows = dict(
        re.findall(r"^\| `(\w+)/` \| (.+)$", (HERE / "ARCHITECTURE.md").read_text("utf-8"), re.M)
    )
    for name in MODULES:
        parts = name.split(".")
        if len(parts) == 3 and "_command" not in name:
            stem = "runtime…" if parts[2].startswith("runtime") else parts[2]
            if stem != "__main__":
                assert f"`{stem}`" in rows[parts[1]] or f"`{stem}/`" in rows[parts[1]], name
    there = {parts[1] for parts in (name.split(".") for name in MODULES) if len(parts) > 2}
    assert set(rows) - {"inside"} == there


@pytest.mark.parametrize("name", MODULES)
def test_a_wing_says_what_it_owns(name):
    """In at most ten lines, and nothing else: importing a wing's module costs no more than that."""
    file = MODULES[name]
    if file.name == "__init__.py" and name.count(".") == 1 and "papermill" not in name:
        tree = ast.parse(file.read_text("utf-8"))
        assert len(tree.body) == 1
        assert len(ast.get_docstring(tree).splitlines()) <= 10


@pytest.mark.parametrize("contract", of_type("forbidden"))
def test_forbidden_imports(contract):
    assert edges(contract["source_modules"], contract["forbidden_modules"]) == []


@pytest.mark.parametrize("file", INSIDE_FILES, ids=lambda file: file.name)
def test_what_runs_inside_a_kernel_needs_that_interpreter_alone(file):
    """It may be another environment, where neither we nor what we depend on is installed."""
    of_kernel = {"IPython", "ipykernel", "jupyter_client", "tornado", "zmq"}
    top = {name.partition(".")[0] for name in imported(file, nested=False)}
    assert top <= sys.stdlib_module_names | {"ductaflow_inside"} | of_kernel
    anywhere = {name.partition(".")[0] for name in imported(file)}
    assert not anywhere & {"ductaflow", "ductaflow_kernels", "attrs", "attr"}


@pytest.mark.parametrize("program", ["boot", "zygote", "foreign", "observing.observer"])
def test_programs_inside_import_nothing_of_ipykernel_when_they_start(program):
    """What it does is still to be observed; and names that we rely on may not be there."""
    code = f"import sys; sys.path.append({str(INSIDE.parent)!r}); import ductaflow_inside.{program}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # no package is there


def below_inside(file: Path) -> set[str]:
    """The modules and folders of `ductaflow_inside` that one of its files imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            top, *rest = str(node.module).split(".")
            if top == "ductaflow_inside":
                found |= {rest[0]} if rest else {alias.name for alias in node.names}
    return found


def test_imports_inside_a_kernel_point_down_only():
    placed = set.union(*INSIDE_LAYERS)
    assert placed == {entry.stem for entry in INSIDE.iterdir()} - {"__init__", "__pycache__"}
    for at, row in enumerate(INSIDE_LAYERS):
        below = set().union(*INSIDE_LAYERS[at + 1 :])
        for name in row:
            files = [INSIDE / f"{name}.py", *(INSIDE / name).rglob("*.py")]
            used = set().union(*(below_inside(file) for file in files if file.exists()))
            assert used - {name} <= below, name


def test_modules_inside_a_kernel_are_imported_in_one_way():
    """As `from ductaflow_inside.x import y`, which the test above reads; a folder's say nothing."""
    for file in INSIDE_FILES:
        tree = ast.parse(file.read_text("utf-8"))
        plain = [n for n in ast.walk(tree) if isinstance(n, ast.Import)]
        assert not [a.name for n in plain for a in n.names if a.name.startswith("ductaflow_inside")]
        if file.name == "__init__.py":
            assert len(tree.body) == 1


def test_no_script_inside_a_kernel_has_a_module_of_the_standard_library_beside_it():
    """Python puts a script's folder first on the path, until `start` takes it away."""
    assert not {file.stem for file in INSIDE.iterdir()} & sys.stdlib_module_names


# --- what an import costs ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ductaflow", "ductaflow_kernels"])
def test_importing_is_cheap(name):
    heavy = {
        "IPython", "ipykernel", "jupyter_client", "jupyter_core", "jupytext", "matplotlib",
        "nbconvert", "nbformat", "numpy", "pandas", "tornado", "traitlets", "zmq",
        "asyncio", "concurrent.futures", "multiprocessing",
    }  # fmt: skip
    code = f"import sys; before = set(sys.modules); import {name}; print(*set(sys.modules)-before)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert heavy & set(done.stdout.decode().split()) == set()


# --- what is public ---------------------------------------------------------------------------


def test_public_names_are_sorted_and_unique():
    names = [name for name in ductaflow.__all__ if name != "__version__"]
    assert names == sorted(set(names))


@pytest.mark.parametrize("name", ductaflow.__all__)
def test_public_name_resolves_and_is_documented(name):
    value = getattr(ductaflow, name)
    if not isinstance(value, str):
        assert value.__doc__
        assert value.__name__ == name
        assert name in dir(ductaflow)


def test_no_public_name_is_a_module():
    """The module would take the name's place as soon as something imports it."""
    assert not {f"ductaflow.{name}" for name in ductaflow.__all__} & set(MODULES)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(ductaflow.__file__).read_text("utf-8"))
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname is not None
    }
    assert seen == set(ductaflow.__all__)


OURS = {"ArtifactPaths", "Call", "Entry", "Kind", "RunSummary", "Table", "_Axis", "_Product"}
"""Types of attributes that public classes have for ductaflow itself."""


def told(annotation: object) -> list[str]:
    """The names in an annotation."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return [node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]


def handed_out(name: str, value: Any) -> Iterator[tuple[str, object]]:
    """What a caller gets of a public name: what a function returns, what an object has."""
    if not inspect.isclass(value):
        yield name, getattr(value, "__annotations__", {}).get("return", "")
        return
    if attrs.has(value):
        yield from ((f"{name}.{field.name}", field.type) for field in attrs.fields(value))
    for attribute in dir(value):
        if not attribute.startswith("_"):
            member = inspect.getattr_static(value, attribute)
            member = getattr(member, "fget", None) or getattr(member, "__func__", member)
            returned = getattr(member, "__annotations__", {}).get("return", "")
            yield f"{name}.{attribute}", returned


def test_types_that_callers_are_handed_are_public():
    classes = {
        name: value
        for module in MODULES
        for name, value in vars(importlib.import_module(module)).items()
        if inspect.isclass(value) and value.__module__ == module
    }
    events = {name: value for name, value in vars(ductaflow.events).items() if name in classes}
    public = {name: getattr(ductaflow, name) for name in ductaflow.__all__} | events
    found = {
        f"{where}: {each}"
        for name, value in public.items()
        for where, annotation in handed_out(name, value)
        for each in told(annotation)
        if each in classes and each not in public and each not in OURS
        if not where.rpartition(".")[2].startswith("_")
    }
    assert not found


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ductaflow.no_such_name


def test_every_error_is_public():
    here = {name for name, cls in vars(ductaflow.errors).items() if inspect.isclass(cls)}
    assert here <= set(ductaflow.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package):
    assert (PACKAGES[package] / "py.typed").is_file()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_and_is_documented(module):
    assert importlib.import_module(module).__doc__


# --- errors -----------------------------------------------------------------------------------


ERRORS = [
    pytest.param(cls, id=f"{module.__name__}.{name}")
    for module in (ductaflow.errors, ductaflow_kernels.errors)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and issubclass(cls, BaseException)
]


@pytest.fixture
def failed_run(tmp_path):
    record = RunRecord(
        Status.FAILED, "flow/a.py", "a", "one", "2024-01-01T00:00:00+00:00", kernel={"pid": 7}
    )
    return Run(record, ArtifactPaths.of(tmp_path, "a"))


@pytest.mark.parametrize("cls", ERRORS)
def test_errors_pickle(cls, failed_run):
    if issubclass(cls, ductaflow.errors.RunFailed):
        error = cls("it failed", failed_run)
    elif issubclass(cls, (ductaflow.errors.SweepFailed, ductaflow.errors.SweepInterrupted)):
        error = cls("it failed", Runs((Entry.of(failed_run, 0),), failed_run.dir))
    elif issubclass(cls, ductaflow_kernels.errors.KernelDied):
        error = cls("it failed", -9, 1 << 30)
    else:
        error = cls("it failed")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error) == "it failed"
    assert copy.args == error.args
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("cls", ERRORS)
def test_errors_belong_to_their_tree_and_are_documented(cls):
    bases = (
        ductaflow.errors.DuctaflowError,
        ductaflow_kernels.errors.KernelError,
        KeyboardInterrupt,
    )
    assert issubclass(cls, bases)
    assert cls.__doc__


# --- the source tree --------------------------------------------------------------------------


def test_kernels_folder_is_no_package():
    """`kernels` is the name of a package on PyPI."""
    folder = HERE / "kernels"
    if not folder.is_dir():
        pytest.skip("run against an installed package")
    assert not (folder / "__init__.py").exists()


def test_changelog_begins_with_this_version():
    text = (HERE / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == ductaflow.__version__
    assert len(versions) == len(set(versions))
