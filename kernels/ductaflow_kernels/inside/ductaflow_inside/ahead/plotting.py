"""What of matplotlib can be made ready before a flow's first figure.

Templates ask for it once they have imported pyplot.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import sys
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from typing import Any

from ductaflow_inside.packages import installed

INLINE = "matplotlib_inline"  # IPython's backend


@functools.lru_cache(maxsize=1)
def draw_a_figure() -> None:
    """Let matplotlib find and load its fonts, which it does for its first figure.

    It leaves nothing but caches: pyplot, its figures and rcParams have no part in it.
    """
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if rcParams["text.usetex"]:  # would start LaTeX
        return
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], label="a")
    axes.set(title="a", xlabel="x", ylabel="y")
    axes.legend()
    figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")


def has_drawn_text() -> bool:
    """Whether this process has opened a font."""
    fonts: Any = getattr(sys.modules.get("matplotlib.font_manager"), "_get_font", None)
    return hasattr(fonts, "cache_info") and bool(fonts.cache_info().currsize)


def open_font() -> None:
    """Open the font of figures, which matplotlib does anew in each forked process.

    Only where it is one of its own: another is a file of which it counts who has read it.
    """
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties, findfont

    font = FontProperties()
    if installed(findfont(font)):
        RendererAgg(1, 1, 72).get_text_width_height_descent("x", font, ismath=False)


@functools.lru_cache(maxsize=1)
def read_inline_backend() -> None:
    """Make IPython's backend quick to import.

    It acts on the shell when it is imported, so a flow must do that itself. The part that only
    defines classes is imported now; of the rest the code is read.
    """
    spec = importlib.util.find_spec(INLINE)
    if spec is None or INLINE in sys.modules:
        return
    sys.modules[INLINE] = importlib.util.module_from_spec(spec)  # not executed
    try:
        importlib.import_module(f"{INLINE}.config")
        for found in (spec, importlib.util.find_spec(f"{INLINE}.backend_inline")):
            if found is not None:
                _read_code(found)
    finally:
        del sys.modules[INLINE]


def _read_code(spec: ModuleSpec) -> None:
    """Have a module's code ready where the import system, once, will find it without a file."""
    file = spec.origin or ""
    folder = os.path.dirname(os.path.dirname(file) if spec.submodule_search_locations else file)
    finder = sys.path_importer_cache.get(folder)
    if type(finder) is not FileFinder or type(spec.loader) is not SourceFileLoader:
        return
    code = spec.loader.get_code(spec.name)
    vars(spec.loader)["get_code"] = lambda _: code
    search = finder.find_spec

    def find_spec(name: str, target: Any = None) -> ModuleSpec | None:
        if name != spec.name:
            return search(name, target)
        vars(finder).pop("find_spec")
        return spec

    vars(finder)["find_spec"] = find_spec
