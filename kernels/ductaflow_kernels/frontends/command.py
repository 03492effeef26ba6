"""The command `ductaflow-kernels`: make warm kernels known to Jupyter."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ductaflow_kernels.errors import KernelError
from ductaflow_kernels.frontends.provisioner import DEFAULT_PRELOAD, PROVISIONER
from ductaflow_kernels.sources.forked import forking_works


class CommandFailed(KernelError):
    """A command could not do what it was asked; the message says what to do instead."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process for None.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(argv)
    try:
        said = options.do(options)
    except CommandFailed as e:
        sys.stderr.write(f"ductaflow-kernels: {e}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ductaflow-kernels", description="Warm kernels for JupyterLab, nbclient, papermill."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    install = commands.add_parser("install", help="add a kernel of this interpreter to Jupyter")
    place = install.add_mutually_exclusive_group()
    place.add_argument("--user", action="store_true", help="for this user")
    place.add_argument("--sys-prefix", action="store_true", help="for this interpreter's folder")
    place.add_argument("--prefix", type=Path, metavar="P", help="in P/share/jupyter/kernels")
    install.add_argument("--name", default="python3-warm", help="what programs call it")
    install.add_argument("--display-name", default="Python 3 (warm)", help="what people see")
    install.add_argument(
        "--preload",
        type=_modules,
        default=DEFAULT_PRELOAD,
        metavar="M,…",
        help=f"modules that its kernels find imported (default: {','.join(DEFAULT_PRELOAD)})",
    )
    install.set_defaults(do=_install)
    install.epilog = "By default in --sys-prefix within an environment, else for --user."

    uninstall = commands.add_parser("uninstall", help="remove it from Jupyter")
    uninstall.add_argument("--name", default="python3-warm", help="what programs call it")
    uninstall.set_defaults(do=_uninstall)

    listing = commands.add_parser("list", help="show the warm kernels that Jupyter finds")
    listing.set_defaults(do=_list)
    return parser


def _modules(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise argparse.ArgumentTypeError(f"{name!r} is not a module's name")
    return names


# --- commands -----------------------------------------------------------------------------------


def _install(options: argparse.Namespace) -> str:
    from ipykernel.kernelspec import get_kernel_dict, write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    user, prefix = _place(options)
    _refuse_foreign(options.name, prefix)
    plain = get_kernel_dict()
    config = {"preload": list(options.preload)}
    provisioner = {"provisioner_name": PROVISIONER, "config": config}
    changes = {
        "display_name": options.display_name,
        "metadata": {**plain.get("metadata", {}), "kernel_provisioner": provisioner},
    }
    with tempfile.TemporaryDirectory() as folder:
        files = write_kernel_spec(Path(folder) / "spec", overrides=changes)
        try:
            where = manager.install_kernel_spec(
                files, kernel_name=options.name, user=user, prefix=prefix
            )
        except ValueError as e:
            raise CommandFailed(f"{e} Choose another --name.") from None
        except OSError as e:
            where = e.filename or prefix or "Jupyter's folder"
            raise CommandFailed(
                f"{where} cannot be written ({e.strerror or e}). Use --user, or --prefix with "
                "a folder of your own; `jupyter --paths` shows under `data` where Jupyter looks."
            ) from None
    said = [f"{options.name} is installed in {where}"]
    missing = [n for n in options.preload if not _found(n)]
    if missing:
        said.append(f"Not installed here, so left out until they are: {', '.join(missing)}")
    if not forking_works():
        said.append("This system has no pidfd (Linux 5.3): its kernels will start as usual.")
    if str(Path(where).parent) not in manager.kernel_dirs:
        data = Path(where).parent.parent
        said.append(f"Jupyter does not look there yet: set JUPYTER_PATH={data}")
    return "\n".join(said)


def _uninstall(options: argparse.Namespace) -> str:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    _refuse_foreign(options.name)
    try:
        where = KernelSpecManager().remove_kernel_spec(options.name)
    except (NoSuchKernel, KeyError):
        raise CommandFailed(
            f"no kernel is named {options.name!r}; `ductaflow-kernels list` shows those there are."
        ) from None
    except OSError as e:
        raise CommandFailed(
            f"{e.filename} cannot be removed ({e.strerror}); its owner can do it."
        ) from None
    return f"{options.name} is removed from {where}"


def _list(_: argparse.Namespace) -> str:
    lines = []
    for name, found in sorted(_specs().items()):
        stanza = _stanza(found["spec"])
        if stanza.get("provisioner_name") == PROVISIONER:
            ahead = ", ".join(stanza.get("config", {}).get("preload", DEFAULT_PRELOAD))
            lines.append(f"{name}  {found['resource_dir']}  preloads {ahead or 'nothing'}")
    return "\n".join(lines) or "No warm kernel is installed: `ductaflow-kernels install` adds one."


# --- helpers ------------------------------------------------------------------------------------


def _specs() -> dict[str, Any]:
    from jupyter_client.kernelspec import KernelSpecManager

    found: dict[str, Any] = KernelSpecManager().get_all_specs()
    return found


def _stanza(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    stanza: Mapping[str, Any] = spec.get("metadata", {}).get("kernel_provisioner", {})
    return stanza


def _refuse_foreign(name: str, prefix: str | None = None) -> None:
    """Leave alone what somebody else has installed under a name, or below a prefix.

    Raises:
        CommandFailed: It is not one of ours.
    """
    found = _specs().get(name.lower())
    specs = {Path(found["resource_dir"]): found["spec"]} if found else {}
    if prefix is not None:
        folder = Path(prefix, "share/jupyter/kernels", name.lower())
        with contextlib.suppress(OSError, ValueError):
            specs[folder] = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
    for folder, spec in specs.items():
        if _stanza(spec).get("provisioner_name") != PROVISIONER:
            raise CommandFailed(f"{name!r} is another kernel, in {folder}; choose another --name.")


def _place(options: argparse.Namespace) -> tuple[bool, str | None]:
    """Whether to install for the user, and if not, below which folder."""
    if options.prefix is not None:
        return False, str(options.prefix.expanduser().absolute())
    in_environment = sys.prefix != sys.base_prefix or os.environ.get("CONDA_PREFIX") == sys.prefix
    if options.sys_prefix or (in_environment and not options.user):
        return False, sys.prefix
    return True, None


def _found(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


if __name__ == "__main__":
    sys.exit(main())
