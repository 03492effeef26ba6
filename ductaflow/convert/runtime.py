"""What a notebook does by itself, for standalone scripts, which get a copy of the parts they need.

So these import nothing but Python, and only when they are called. All names begin with `_nb_`, and
no module's name is left behind: a config's keys become variables of the same namespace.
"""

from __future__ import annotations

from typing import Any

from ductaflow.plans.variables import flatten as _nb_flatten  # the script gets a copy of it

_nb_state: dict[str, Any] = {"name": "flow", "figures": 0, "config": {}, "root": None}


# --- the command line ---------------------------------------------------------------------------


def _nb_start(
    script: str, name: str, config_file: str, output: Any, about: str, default: Any
) -> Any:
    """Read the command line, go to the output folder, and return the config."""
    import argparse
    import json
    import os
    import sys
    from pathlib import Path

    here = Path(script).resolve().parent
    marks = ("code", "flow", "flows", "runs")
    near = [here] if here.parent == Path.home() else [here, here.parent]
    root = next((p for p in near if any((p / mark).is_dir() for mark in marks)), here)
    folder = here if output is None else root / output
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=str(here / config_file),
        help="a config, in JSON, that goes over the flow's default "
        f"(default: {config_file} beside this script)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default=str(folder),
        help=f"where to run (default: {folder})",
    )
    parser.add_argument(
        "-p",
        dest="params",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value of the config; dotted keys lead into its dicts",
    )
    options = parser.parse_args()
    try:
        with open(options.config, encoding="utf-8-sig") as file:
            given = json.load(file)
    except (OSError, ValueError) as error:
        parser.error(f"cannot read the config {options.config}: {error}")
    if not isinstance(given, dict):
        parser.error(f"{options.config} holds a {type(given).__name__}; a config is a dict")
    config = _nb_merged(default, given)
    for text in options.params:
        key, equals, value = text.partition("=")
        *above, last = key.strip().split(".")
        inner = config
        for part in above:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
        if not equals or not last or not isinstance(inner, dict):
            parser.error(f"-p {text!r} cannot be put into the config; write -p key=value")
        inner[last] = _nb_value(value)
    taken = os.path.abspath(options.config)
    os.makedirs(options.output_dir, exist_ok=True)
    os.chdir(options.output_dir)
    if os.path.abspath("config.json") != taken:
        with open("config.json", "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    sys.path.insert(1, str(root / "code"))
    if os.environ.get("MPLBACKEND", "").startswith("module://matplotlib_inline"):
        del os.environ["MPLBACKEND"]  # a notebook's, from which this was started
    _nb_state.update(name=name, config=config, root=root, runs=folder.parent.parent)
    return _nb_revealed(config)


def _nb_revealed(value: Any) -> Any:
    """A config with the values of its secrets, each from its source."""
    import os

    if isinstance(value, list):
        return [_nb_revealed(item) for item in value]
    if not isinstance(value, dict):
        return value
    if list(value) != ["$secret"]:
        return {key: _nb_revealed(item) for key, item in value.items()}
    scheme, _, rest = str(value["$secret"]).partition(":")
    if scheme == "env" and rest in os.environ:
        return os.environ[rest]
    if scheme == "keyring":
        import keyring

        found = keyring.get_password(*rest.split("/", 1))
        if found is not None:
            return found
    raise SystemExit(
        f"the config's secret {value['$secret']!r} cannot be had; set the environment variable or "
        'the keyring\'s entry, or write {"$secret": "env:NAME"} in its place'
    )


def _nb_value(text: str) -> Any:
    """A value from the command line: JSON, a word for null, true or false, a number, else text."""
    import json
    import re

    text = text.strip()
    words = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    special = re.fullmatch(r"([-+]?)\.(inf|nan)", text.lower())
    if special:
        return float(special[1] + special[2])
    if text[0] == text[-1] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[0] in '"[{':
        try:
            return json.loads(text)
        except ValueError:
            raise SystemExit(f"{text} is not valid JSON; texts in lists need quotes") from None
    return text


def _nb_merged(base: Any, over: Any) -> Any:
    """A config updated by another, dict by dict."""
    both = dict(base)
    for key, value in over.items():
        nested = isinstance(both.get(key), dict) and isinstance(value, dict)
        both[key] = _nb_merged(both[key], value) if nested else value
    return both


def _nb_flatten_unless(config: Any, own: Any = {}) -> Any:  # noqa: B006 (nobody changes it)
    """The variables that a config becomes.

    Those in `own` are left alone unless the config has another value for them.
    """
    kept = [n for n in own if repr(config.get(n, ...)) in (repr(own[n]), repr(...))]
    return _nb_flatten(config, kept)


# --- what is shown ------------------------------------------------------------------------------


def _nb_show(value: Any) -> None:
    """Show what a cell's last line gives, as a notebook does."""
    if value is not None:
        _nb_display(value)


def _nb_display(*values: Any, raw: bool = False, display_id: Any = None, **_: Any) -> Any:
    """Print values; figures become files."""
    for value in values:
        if raw and isinstance(value, dict):
            print(value.get("text/plain", ""))
        elif hasattr(value, "savefig") and hasattr(value, "number"):
            continue  # one of pyplot's, which is saved when the cell ends
        elif hasattr(value, "savefig"):
            _nb_save(value)
        elif hasattr(value, "to_string") and hasattr(value, "shape") and len(value) <= 60:
            print(value.to_string())  # a data frame, with all its columns
        else:
            print(repr(value))
    return _nb_Handle() if display_id is not None else None


class _nb_Handle:
    """What `display(..., display_id=True)` gives."""

    def update(self, value: Any, **_: Any) -> None:
        _nb_display(value)

    display = update


class _nb_Rich:
    """What `IPython.display` has for rich outputs; here, their text."""

    def __init__(self, data: Any = None, *_: Any, **options: Any) -> None:
        self.data = data if data is not None else options.get("filename", options.get("url", ""))

    def __repr__(self) -> str:
        import re

        return re.sub(r"<[^<>]*>", "", str(self.data))


def _nb_nothing(*_: Any, **__: Any) -> None:
    """What has a meaning in a notebook only."""


def _nb_print_error() -> None:
    """Print an error that the notebook goes on after."""
    import traceback

    traceback.print_exc()


# --- figures ------------------------------------------------------------------------------------


def _nb_prepare_figures() -> None:
    """Let figures become files when `plt.show()` is called and there is no display."""
    try:
        import matplotlib.pyplot
    except ImportError:
        return
    if _nb_without_display():
        matplotlib.pyplot.show = _nb_figures


def _nb_without_display() -> bool:
    import matplotlib

    files_only = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
    return str(matplotlib.get_backend()).lower() in files_only


def _nb_figures(*_: Any, **__: Any) -> None:
    """Show the figures that are open, or save them where there is no display, and close them."""
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not pyplot.get_fignums():
        return
    if _nb_without_display():
        for number in pyplot.get_fignums():
            _nb_save(pyplot.figure(number))
    else:
        pyplot.show()
    pyplot.close("all")


def _nb_save(figure: Any) -> None:
    _nb_state["figures"] += 1
    name = f"{_nb_state['name']}_figure_{_nb_state['figures']:02d}.png"
    figure.savefig(name, bbox_inches="tight")
    print(f"figure: {name}")


# --- bundled modules ----------------------------------------------------------------------------


class _nb_Bundle:
    """Finds the modules that were put into the script."""

    def __init__(self, modules: Any) -> None:
        import sys
        import traceback

        self.modules = modules
        # Python's own way of printing an error looks for lines in files only.
        sys.excepthook = traceback.print_exception

    def find_spec(self, name: str, *_: Any) -> Any:
        if name not in self.modules:
            return None
        from importlib.machinery import ModuleSpec

        spec = ModuleSpec(name, self, origin=f"<bundled {name}>")  # type: ignore[arg-type]
        if self.modules[name][0]:
            spec.submodule_search_locations = []
        return spec

    def create_module(self, _: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        import linecache

        source = self.modules[module.__name__][1]
        where = f"<bundled {module.__name__}>"
        linecache.cache[where] = len(source), None, source.splitlines(True), where
        exec(compile(source, where, "exec"), module.__dict__)  # noqa: S102

    def get_source(self, name: str) -> Any:
        return self.modules[name][1]
