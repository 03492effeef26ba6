"""Start a program of this package: the one file of it that is run as a script.

    python start.py kernel FOLDER OBSERVER FILE           a kernel of ours
    python start.py zygote FD [debugger]                  what forks kernels of ours
    python start.py exec FOLDER OBSERVER COMMAND ...      any other kernel
    python start.py observer FD                           what notes the files that kernels use

The first two run in an interpreter that somebody has chosen. Any Python can read this file, back to
2.7; most others need a recent one. So it looks at versions before it imports any of them, and if
they do not do, it says so in place of its first answer, and ends.
"""

import os
import sys


def main():  # type: () -> None
    """Entry point."""
    _find_package()
    mode, args = sys.argv[1], sys.argv[2:]
    if mode in ("kernel", "zygote"):
        from ductaflow_inside.requirements import UNFIT_EXIT, too_old, unfit

        why = too_old()
        if why:
            os.write(int(args[0]) if mode == "zygote" else 1, unfit(why))
            sys.exit(UNFIT_EXIT)
    if mode == "kernel":
        from ductaflow_inside.boot import main as run
    elif mode == "zygote":
        from ductaflow_inside.zygote import main as run
    elif mode == "exec":
        from ductaflow_inside.foreign import main as run
    else:
        from ductaflow_inside.observing.observer import main as run
    del sys.path[0]  # it is no place for a flow to import from
    run(args)


def _find_package():  # type: () -> None
    """Put the folder that has this package first on the path, in place of the package's own."""
    if not getattr(sys.flags, "safe_path", getattr(sys.flags, "isolated", False)):
        del sys.path[0]  # else Python has left it out
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


if __name__ == "__main__":
    main()
