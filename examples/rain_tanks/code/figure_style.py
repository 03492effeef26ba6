"""One look for all figures of the study."""

import matplotlib.pyplot as plt

RAIN = "#2a6f97"
PALE = "#a9d6e5"
SHORT = "#d1495b"
GARDEN = "#5b8c5a"
INK = "#333333"
GREY = "#8d99a6"

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def use_style():
    """Set the defaults of matplotlib for this notebook."""
    plt.rcParams.update(
        {
            "figure.dpi": 120,
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": GREY,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": "#e6e9ec",
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
        }
    )


def shade_days(ax, dates, flags, label):
    """Shade the days that are flagged over the full height of the axes."""
    height = ax.get_xaxis_transform()
    look = {"step": "mid", "color": SHORT, "alpha": 0.25, "linewidth": 0, "label": label}
    ax.fill_between(dates, 0, 1, where=flags, transform=height, **look)


def legend_above(ax):
    """Put the legend in one line between the title and the axes; give the title pad=24."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
