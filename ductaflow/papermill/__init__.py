"""papermill's calls on ductaflow's kernels: `import ductaflow.papermill as pm`.

For programs that call papermill: one changed import, and their notebooks run on warm kernels. What
new programs would rather use is `ductaflow.run_step_flow` and `ductaflow.sweep`, which also keep
records, write reports, and run again only what has changed.
"""

from __future__ import annotations

from ductaflow._version import __version__ as __version__
from ductaflow.papermill.exceptions import PapermillException as PapermillException
from ductaflow.papermill.exceptions import PapermillExecutionError as PapermillExecutionError
from ductaflow.papermill.execute import execute_notebook as execute_notebook
from ductaflow.papermill.inspection import inspect_notebook as inspect_notebook

__all__ = [
    "PapermillException",
    "PapermillExecutionError",
    "__version__",
    "execute_notebook",
    "inspect_notebook",
]
