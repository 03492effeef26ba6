"""What flows import from ductaflow, for standalone scripts, which have none.

See `ductaflow.convert.runtime`, of which this is a part.
"""

from __future__ import annotations

from typing import Any

from ductaflow.convert.runtime import _nb_state
from ductaflow.plans.variables import flatten as _nb_flatten


def _nb_is_notebook_execution() -> bool:
    return False


def _nb_load_cli_config(*_: Any, **__: Any) -> Any:
    """The config, which has been read already."""
    config = _nb_state["config"]
    config.setdefault("_project_root", str(_nb_state["root"]))
    return config


def _nb_unpack_config(config: Any, flow_name: Any = None, caller_locals: Any = None) -> Any:
    """The config's variables."""
    if flow_name is not None:
        _nb_display_config_summary(config, flow_name)
    import re
    from pathlib import Path

    flat = {
        key: Path(value)
        if isinstance(value, str) and re.search("_(?:dir|folder)$|^_project_root$", key)
        else value
        for key, value in _nb_flatten(config or {}).items()
    }
    if caller_locals is not None:
        caller_locals.update(flat)
    return flat


def _nb_display_config_summary(config: Any, flow_name: Any = None) -> None:
    print(f"Configuration of {flow_name}" if flow_name else "Configuration")
    for key, value in (config or {}).items():
        print(f"  {key} = {value!r}")


def _nb_get_all_instances(step: str, *, status: Any = "success", root: Any = None) -> Any:
    """The runs of a step that lie beside this script's project, as far as their files tell."""
    import json
    from pathlib import Path
    from types import SimpleNamespace

    found = []
    folder = (_nb_state["runs"] if root is None else Path(root) / "runs") / step
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            record = json.loads((place / "run.json").read_text("utf-8"))
            config = json.loads((place / "config.json").read_text("utf-8"))
            once = record.pop("this_run", {})
            for key in ("cells", "inputs", "outputs"):
                if key in once:
                    pairs = zip(record[key], once[key], strict=True)
                    once[key] = [{**item, **more} for item, more in pairs]
            once["kernel"] = {**record.get("kernel", {}), **once.get("kernel", {})}
            once["notes"] = [*record.get("notes", []), *once.get("notes", [])]
            record.update(once)
        except (OSError, ValueError):
            continue
        wanted = getattr(status, "value", status)
        if place.name[0] == "." or wanted not in (None, record.get("status")):
            continue
        name = Path(str(record.get("flow", step))).stem
        found.append(
            SimpleNamespace(
                step=step,
                instance=place.name,
                dir=place,
                config=config,
                status=record.get("status"),
                ok=record.get("status") == "success",
                duration=record.get("duration"),
                notebook=place / f"{name}.ipynb",
                html=place / f"{name}.html",
                log=place / f"{name}.log",
                record=SimpleNamespace(**record),
            )
        )
    return found
