"""What `on_event` is called with while a flow or a sweep runs."""

from __future__ import annotations

from ductaflow.history.events import CellFinished as CellFinished
from ductaflow.history.events import CellStarted as CellStarted
from ductaflow.history.events import InstanceFinished as InstanceFinished
from ductaflow.history.events import InstanceStarted as InstanceStarted
from ductaflow.history.events import OutputLine as OutputLine
