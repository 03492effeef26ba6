"""What kernel is meant: an interpreter or kernelspec, an environment, a folder."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

from ductaflow_kernels.errors import UnknownKernelspec
from ductaflow_kernels.jupyterclient import import_jupyter_client

# What the loader and the interpreter read when they start. The families of numerical libraries are
# here for speed only: whether an import has seen a variable is observed (see `surroundings`).
STARTUP_PREFIXES = (
    "PYTHON", "LD_", "DYLD_", "OMP_", "MKL_", "OPENBLAS_", "VECLIB_", "NUMEXPR_", "BLIS_", "GOTO_",
    "NUMBA_", "POLARS_", "RAYON_", "CUDA_", "MPL", "MALLOC_", "ARROW_",
)  # fmt: skip
STARTUP_NAMES = frozenset({"PATH", "HOME", "TZ", "LANG", "LANGUAGE", "TMPDIR", "VIRTUAL_ENV"})


@attrs.frozen
class KernelSpec:
    """How a kernel of one kind is started.

    Attributes:
        name: The kernelspec's name; empty for the conductor's own interpreter.
        argv: The interpreter alone, if `managed`; else the whole command, with
            `{connection_file}` where the connection file goes.
        managed: Whether it is an ipykernel that we start through our own boot file, and so can
            be adopted in advance and finished tidily.
        env: Variables that the kernelspec adds.
        language: As in the kernelspec, lower case.
        display_name: For people and for the notebook's metadata.
        interrupt_mode: `signal` or `message`.
    """

    name: str
    argv: tuple[str, ...]
    managed: bool = True
    env: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    language: str = "python"
    display_name: str = "Python 3"
    interrupt_mode: str = "signal"

    def plain(self) -> KernelSpec:
        """The same interpreter's kernel as its ipykernel starts it, for a managed one.

        Nothing is read from the user's profile, and no history is written there.
        """
        argv = (
            *(*self.argv, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
            "--IPKernelApp.ipython_dir={private_folder}",
            "--HistoryManager.hist_file=:memory:",
        )
        return attrs.evolve(self, argv=argv, managed=False)


@attrs.frozen
class KernelRequest:
    """One kernel, wanted now.

    Attributes:
        spec: Of which kind.
        cwd: Its working directory, absolute.
        env: Its whole environment, without what the kernelspec adds.
        preload: Modules that its flow imports, which a source may import in advance.
        observe: The project root, if it is to be noted which files the kernel uses; else None.
    """

    spec: KernelSpec
    cwd: Path
    env: Mapping[str, str] = attrs.field(hash=False, repr=False)
    preload: tuple[str, ...] = ()
    observe: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment with the kernelspec's own variables."""
        return {**self.env, **self.spec.env}

    @property
    def warm_key(self) -> WarmKey:
        """What a kernel started ahead must have in common with this request."""
        startup = (
            (name, value)
            for name, value in sorted(self.environment.items())
            if name in STARTUP_NAMES or name.startswith((*STARTUP_PREFIXES, "LC_"))
        )
        return WarmKey(self.spec, tuple(startup), self.preload, self.observe is not None)


@attrs.frozen
class WarmKey:
    """Kernels of one key are interchangeable until they are adopted.

    Attributes:
        spec: Of which kind.
        startup_env: Variables that an interpreter reads once, when it starts; the others are given
            at adoption, if no import has seen them.
        preload: Modules to import ahead.
        observed: Whether it is noted which files they use.
    """

    spec: KernelSpec
    startup_env: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    preload: tuple[str, ...] = ()
    observed: bool = False


def own_interpreter() -> KernelSpec:
    """The kernel of the interpreter that is running now."""
    return KernelSpec(name="", argv=(sys.executable,))


def find_spec(name: str | None) -> KernelSpec:
    """The kernel of a kernelspec's name; of the running interpreter for None.

    Raises:
        UnknownKernelspec: There is none of that name; the message lists those there are.
    """
    if name is None:
        return own_interpreter()
    import_jupyter_client()
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    try:
        found = manager.get_kernel_spec(name)
    except NoSuchKernel:
        known = sorted(manager.find_kernel_specs())
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownKernelspec(
            f"no kernelspec is named {name!r}.{hint} There are: {', '.join(known) or 'none'}. "
            "`jupyter kernelspec list` shows where they lie; leave kernel_name out to use this "
            "interpreter."
        ) from None
    places = {"{resource_dir}": found.resource_dir, "{prefix}": sys.prefix}
    argv = [_filled(part, places) for part in found.argv]
    if argv and argv[0] in _OUR_OWN:
        argv[0] = sys.executable
    managed = _is_ipykernel(argv)
    return KernelSpec(
        name=name,
        argv=tuple(argv[: argv.index("-m")] if managed else argv),
        managed=managed,
        env={k: os.path.expandvars(v) for k, v in found.env.items()},
        language=found.language.lower(),
        display_name=found.display_name,
        interrupt_mode=found.interrupt_mode,
    )


def _filled(part: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        part = part.replace(name, place)
    return part


# A kernelspec that names no folder means the interpreter that reads it, as
# jupyter_client.manager.KernelManager.format_kernel_cmd has it: the first on the PATH may be any.
_OUR_OWN = frozenset(
    {"python", f"python{sys.version_info[0]}", f"python{sys.version_info[0]}.{sys.version_info[1]}"}
)


def _is_ipykernel(argv: list[str]) -> bool:
    return "-m" in argv[1:] and argv[argv.index("-m") + 1] in ("ipykernel_launcher", "ipykernel")
