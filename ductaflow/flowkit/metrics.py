"""What a flow tells of itself: `record(accuracy=0.93)`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ductaflow.errors import ConfigError
from ductaflow.model.records import METRICS_MIME, SCRAP_MIME
from ductaflow.plans.config import normalise


def record(**metrics: Any) -> None:
    """Publish scalars of this run: they go into its `run.json`, and into tables over many runs.

    Outside a notebook, as in a plain script, nothing happens.

    Args:
        **metrics: Names and values: numbers, strings, booleans, None; numpy's and pandas' scalars
            too. A later value of a name replaces an earlier one.

    Raises:
        ConfigError: A value is no scalar.
    """
    clean = normalise(metrics)
    for name, value in clean.items():
        if isinstance(value, (list, dict)):
            raise ConfigError(
                f"record({name}=...) is of type {type(metrics[name]).__name__}; it takes scalars: "
                "write anything larger to a file in the instance's folder"
            )
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        shell.display_pub.publish({METRICS_MIME: clean})


def scalars(published: object) -> dict[str, Any]:
    """What of a message is as `record` sends it: anything in a kernel can send another."""
    if not isinstance(published, Mapping):
        return {}
    return {
        name: value
        for name, value in published.items()
        if isinstance(name, str) and isinstance(value, str | float | int | bool | None)
    }


def scraps(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was published as outputs of a notebook, in which scrapbook finds it."""
    return [
        {
            "output_type": "display_data",
            "data": {SCRAP_MIME: {"name": name, "data": value, "encoder": "json", "version": 1}},
            "metadata": {"scrapbook": {"name": name, "data": True, "display": False}},
        }
        for name, value in metrics.items()
    ]
