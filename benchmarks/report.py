"""The figures as a Markdown section, with the targets that the project has set itself."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from contenders import CONTENDERS

TARGETS = {  # ductaflow must be so many times faster
    "papermill": {"tri": 20.0, "plot": 12.0, "model": 25.0, "cells": 12.0},
    "script": {"plot": 5.0, "model": 12.0},
    "ploomber": {"tri": 1.0, "plot": 1.0, "model": 1.0, "cells": 1.0},
}
PACKAGES = (
    "ductaflow", "ipykernel", "jupyter_client", "nbconvert", "papermill", "ploomber-engine",
    "numpy", "pandas", "matplotlib", "scipy", "scikit-learn",
)  # fmt: skip


# --- the section ----------------------------------------------------------------------------------


def markdown(results: dict[str, Any]) -> str:
    """The section between the two marks, without them."""
    blocks = [_instances(results)]
    if results["cold"]:
        blocks.append(_cold(results["cold"]))
    blocks.append("\n".join(f"- {item}" for item in _items(results)))
    return "\n\n".join(blocks) + "\n"


def _instances(results: dict[str, Any]) -> str:
    names = [n for n in CONTENDERS if any(n in flow for flow in results["flows"].values())]
    rows = [["ms an instance", *(CONTENDERS[name].label for name in names)]]
    for key, flow in results["flows"].items():
        rows.append([flow["label"], *(_cell(flow, name, key) for name in names)])
    head = (
        f"Medians of {results['n']} sequential instances, the contenders in turns. In brackets: "
        "how many times as long as ductaflow, and the target set for it."
    )
    return f"{head}\n\n{_table(rows)}"


def _cell(flow: dict[str, Any], name: str, key: str) -> str:
    took = _median(flow.get(name))
    if took is None:
        return "not installed" if flow.get(name, {}).get("missing") else "–"
    ours = _median(flow.get("ductaflow"))
    if name == "ductaflow" or ours is None:
        return f"**{took:.0f}**" if name == "ductaflow" else f"{took:.0f}"
    target = TARGETS.get(name, {}).get(key)
    if target is None:
        return f"{took:.0f} ({took / ours:.1f}×)"
    wanted = "faster" if target == 1.0 else f"≥ {target:.0f}×"
    verdict = "✓" if took / ours >= target else "✗"
    return f"{took:.0f} ({took / ours:.1f}×; {wanted} {verdict})"


def _cold(results: dict[str, Any]) -> str:
    names = list(dict.fromkeys(n for flow in results.values() for n in flow if n != "label"))
    rows = [["first run in a new process, ms", *(CONTENDERS[name].label for name in names)]]
    rows += [[f["label"], *(_cell(f, name, "") for name in names)] for f in results.values()]
    return _table(rows)


def _items(results: dict[str, Any]) -> list[str]:
    items = []
    if results.get("lease_ms"):
        times = sorted(results["lease_ms"])
        items.append(
            f"From `lease()` to the first cell running, while the pool keeps up: "
            f"{median(times):.1f} ms (median of {len(times)}; slowest {times[-1]:.1f})."
        )
    weight = results.get("kernel_memory")
    if weight:
        items.append(
            "Each further idle kernel with pandas and matplotlib imported: "
            f"{weight['new'] / 2**20:.1f} MiB of memory (PSS); {weight['ready'] / 2**20:.1f} MiB "
            "once it copies ahead what a flow with a plot writes to."
        )
    cpu = [
        f"{flow['ductaflow']['cpu_ms']:.0f} ({flow['label']})"
        for flow in results["flows"].values()
        if flow.get("ductaflow", {}).get("cpu_ms")
    ]
    if cpu:
        items.append(f"CPU ms an instance with ductaflow, all processes: {', '.join(cpu)}.")
    return [*items, *machine_items(results["machine"])]


def machine_items(facts: dict[str, Any]) -> list[str]:
    """What was measured on, in words."""
    machine = (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory']}; {facts['system']}, "
        f"Python {facts['python']}; {facts['date']}."
    )
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    return [machine, f"{packages}."]


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def line(flow: dict[str, Any]) -> str:
    """One flow's medians in a line, to be read while the rest is being measured."""
    parts = []
    for name, result in flow.items():
        took = _median(result) if isinstance(result, dict) else None
        if took is not None:
            cpu = f", cpu {result['cpu_ms']:.0f}" if result.get("cpu_ms") else ""
            parts.append(f"{CONTENDERS[name].label} {took:.0f} (best {min(result['ms']):.0f}{cpu})")
        elif isinstance(result, dict):
            parts.append(f"{CONTENDERS[name].label}: not installed: {', '.join(result['missing'])}")
    return "  " + "; ".join(parts)


def _median(result: Any) -> float | None:
    return median(result["ms"]) if result and result.get("ms") else None


# --- the file -------------------------------------------------------------------------------------


def marks(name: str = "benchmark") -> tuple[str, str]:
    """The lines between which a section stands."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def check(path: Path, name: str = "benchmark") -> None:
    """Make sure that a file has a place for the section."""
    text, (begin, end) = path.read_text("utf-8"), marks(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"{path} must hold the lines {begin} and {end}, in this order, once each")


def write(path: Path, section: str, name: str = "benchmark") -> None:
    """Replace what stands between the two marks."""
    check(path, name)
    begin, end = marks(name)
    head, _, rest = path.read_text("utf-8").partition(begin)
    tail = rest.partition(end)[2]
    path.write_text(f"{head}{begin}\n{section}{end}{tail}", "utf-8")


# --- the machine ----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What was measured on, and with which versions."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "date": date.today().isoformat(),  # noqa: DTZ011  (a day, for people)
        "load_before": load(),
    }


def load() -> float | None:
    """Processes that wanted a core in the last minute, ours included; None if it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "memory unknown"
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{size / 2**30:.0f} GiB"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
