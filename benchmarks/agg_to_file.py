"""A matplotlib backend for scripts: `plt.show()` draws each open figure into a PNG file.

Plain `agg` would draw nothing at all on `show()`, and the script would be spared a part of the
work that every notebook does.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg, FigureManagerBase

FigureCanvas = FigureCanvasAgg
FigureManager = FigureManagerBase


def show(*_: object, **__: object) -> None:
    for number in plt.get_fignums():
        plt.figure(number).savefig(f"figure-{number}.png")
    plt.close("all")
