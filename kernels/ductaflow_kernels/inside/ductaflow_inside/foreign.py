"""Run the command of a kernel that is not ours: on the lifeline, and observed.

In the conductor's interpreter, for the kernel may be a program of any kind.
"""

from __future__ import annotations

import os

from ductaflow_inside.lifeline import arm_lifeline, take_standard_pipes
from ductaflow_inside.observing import observed


def main(args: list[str]) -> None:
    """Entry point. Arguments: FOLDER OBSERVER COMMAND ..., where the observer may be empty."""
    folder, observer, *command = args
    lifeline, ready = take_standard_pipes()
    arm_lifeline(lifeline)
    if observer:
        observed.attach(observer, folder)
    os.close(ready)
    os.execvp(command[0], command)
