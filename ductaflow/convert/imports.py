"""What a flow imports: what only a notebook has, and the project's own modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from ductaflow.convert.magics import Refused
from ductaflow.errors import ConversionError

_OURS = ("ductaflow", "ductacore", "ductaflow_kernels")
_NOTEBOOKS = ("IPython", "ipykernel", "ipywidgets")

_STAND_INS = {
    "is_notebook_execution": "_nb_is_notebook_execution",
    "load_cli_config": "_nb_load_cli_config",
    "unpack_config": "_nb_unpack_config",
    "display_config_summary": "_nb_display_config_summary",
    "get_all_instances": "_nb_get_all_instances",
    "record": "_nb_nothing",
    "reads": "_nb_nothing",
}
_RICH = ("HTML", "Markdown", "Latex", "Math", "Pretty", "Code", "Image", "SVG", "JSON", "IFrame",
         "FileLink", "FileLinks", "Javascript", "Video", "Audio", "YouTubeVideo")  # fmt: skip
_DISPLAY = {
    **dict.fromkeys(_RICH, "_nb_Rich"),
    **dict.fromkeys(
        ("display", "display_html", "display_markdown", "display_png", "display_pretty",
         "update_display"),
        "_nb_display",
    ),
    **dict.fromkeys(("clear_output", "set_matplotlib_formats"), "_nb_nothing"),
}  # fmt: skip


def translated_import(node: ast.Import | ast.ImportFrom) -> str | None:
    """An import of what only a notebook has, as plain Python; None for all others.

    Raises:
        Refused: There is nothing in plain Python for it.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            _refuse_module(alias.name)
        return None
    module = node.module or ""
    package = module.partition(".")[0]
    if module == "tqdm.notebook":
        names = ", ".join(map(ast.unparse, node.names))
        return f"from tqdm import {names}"
    if module in ("ductaflow", "ductacore"):
        return _assignments(node, _STAND_INS, "needs ductaflow, which a standalone script has not")
    if module in ("IPython.display", "IPython.core.display"):
        return _assignments(node, _DISPLAY, "has no meaning in a script")
    if module == "IPython":
        both = {"display": "_nb_display", "get_ipython": "_nb_nothing"}
        return _assignments(node, both, "has no meaning in a script")
    if package in (*_OURS, *_NOTEBOOKS) and not node.level:
        _refuse_module(module)
    return None


def _assignments(node: ast.ImportFrom, known: dict[str, str], why: str) -> str:
    lines = []
    for alias in node.names:
        if alias.name not in known:
            raise Refused(f"`{alias.name}` of {node.module} {why}; do without it in this flow")
        lines.append(f"{alias.asname or alias.name} = {known[alias.name]}")
    return "\n".join(lines)


def _refuse_module(name: str) -> None:
    package = name.partition(".")[0]
    if package in _OURS:
        raise Refused(
            f"`import {name}` needs ductaflow, which a standalone script has not; import the names "
            "that the flow uses from it: `from ductaflow import …`"
        )
    if package in _NOTEBOOKS:
        raise Refused(
            f"`import {name}` needs a notebook; import it within `try: … except ImportError: …` if "
            "the flow can do without"
        )


def guarded_imports(tree: ast.AST) -> set[ast.AST]:
    """Imports that a flow can do without: within `try`, whose handlers take an ImportError."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Try):
            continue
        caught = {
            name.id
            for handler in node.handlers
            for name in (ast.walk(handler.type) if handler.type else [ast.Name("Exception")])
            if isinstance(name, ast.Name)
        }
        if caught & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}:
            for statement in node.body:
                found.update(n for n in ast.walk(statement) if _is_import(n))
    return found


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


# --- the project's modules ----------------------------------------------------------------------


@attrs.frozen
class Module:
    """A module of the project.

    Attributes:
        name: Its dotted name.
        path: Its file.
        is_package: Whether it is a package.
        source: Its text.
    """

    name: str
    path: Path
    is_package: bool
    source: str


def project_modules(trees: Sequence[ast.AST], folders: Sequence[Path]) -> list[Module]:
    """The modules that code imports from these folders, and those that these import in turn.

    Args:
        trees: The code.
        folders: Where the project's modules lie, in the order of search.

    Raises:
        ConversionError: A module needs what only a notebook has, or cannot be read.
    """
    found: dict[str, Module] = {}
    waiting = [name for tree in trees for name in _imported(tree, "")]
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            dotted = ".".join(parts[:depth])
            if dotted in found or parts[0] in _OURS:
                continue
            module = _find(dotted, folders)
            if module is None:
                break
            found[dotted] = module
            tree = _checked(module)
            waiting += _imported(tree, dotted if module.is_package else dotted.rpartition(".")[0])
    return [found[name] for name in sorted(found)]


def _find(name: str, folders: Sequence[Path]) -> Module | None:
    for folder in folders:
        base = folder.joinpath(*name.split("."))
        for path, is_package in ((base / "__init__.py", True), (base.with_suffix(".py"), False)):
            if path.is_file():
                try:
                    return Module(name, path, is_package, path.read_text("utf-8-sig"))
                except (OSError, UnicodeDecodeError) as e:
                    raise ConversionError(f"cannot read {path}, which the flow imports: {e}") from e
    return None


def _checked(module: Module) -> ast.AST:
    try:
        tree = ast.parse(module.source)
    except SyntaxError as e:
        raise ConversionError(f"{module.path}:{e.lineno}: does not compile: {e.msg}") from e
    guarded = guarded_imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in guarded:
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            for name in modules:
                if name.partition(".")[0] in (*_OURS, *_NOTEBOOKS):
                    raise ConversionError(
                        f"{module.path}:{node.lineno}: `{name}` is not there for a standalone "
                        "script; import it within `try: … except ImportError: …`, or not at all"
                    )
    return tree


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that code imports, of modules and of what may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(filter(None, [*above, base]))
            if base:
                yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if base)


def path_entries(tree: ast.AST) -> Iterator[str]:
    """Folders that code puts on `sys.path` by name."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("sys.path.append", "sys.path.insert")
            and isinstance(node.args[-1], ast.Constant)
            and isinstance(node.args[-1].value, str)
        ):
            yield node.args[-1].value
