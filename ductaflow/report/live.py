"""The page while a sweep runs: rewritten now and then, and told of changes every half a second.

A page that is opened from disk can fetch nothing, so it loads `status.js` again and again: a script
with the changes of the last while. A page that has missed more than that loads itself anew.

    events ──caller's thread──▶ what has changed ──writer's thread──▶ status.js, index.html
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.documents.html import HtmlOptions
from ductaflow.documents.html.page import script_json
from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.history.events import (
    CellFinished,
    Event,
    InstanceFinished,
    InstanceStarted,
    OutputLine,
)
from ductaflow.model.flows import Flow
from ductaflow.model.records import RunRecord, Status
from ductaflow.project.layout import instance_dir, runs_dir
from ductaflow.project.root import target_folder
from ductaflow.report.collation import FULL_FIGURES, Site, select
from ductaflow.report.facts import InstanceFacts, Light, facts_of, read_facts
from ductaflow.report.graph import graph_of
from ductaflow.report.media import Media
from ductaflow.report.page import row
from ductaflow.report.summary import causes, counts

EVERY = 0.5  # seconds between two looks at what has changed
BEAT = 5.0  # seconds after which a sign of life is given though nothing has changed
WINDOW = 400  # changes that `status.js` holds
PAGE_EVERY = 20.0  # seconds between two pages, while there are changes
PAGE_SHARE = 10  # at most a tenth of the time goes into pages
FIGURES_FOR = 0.3  # seconds at a time that figures are scaled for
LONGEST_LINE = 200  # characters of what an instance printed last


@final
@attrs.define(eq=False)
class LiveIndex:
    """Listens to a sweep, and keeps a page about it up to date from a thread of its own.

    Attributes:
        site: Where the page lies.
        step: The sweep's step.
        flow: Its flow.
        all_steps: Whether the page is about all of `runs/` rather than this sweep alone.
    """

    site: Site
    step: str
    flow: Flow
    all_steps: bool
    _planned: tuple[str, ...]
    _session: str = attrs.field(factory=lambda: secrets.token_hex(6))
    _facts: dict[str, InstanceFacts] = attrs.field(factory=dict)
    _media: dict[str, Media] = attrs.field(factory=dict)
    _attempts: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    _began: dict[str, str] = attrs.field(factory=dict)
    _ended: dict[str, RunRecord] = attrs.field(factory=dict)
    _changed: dict[str, None] = attrs.field(factory=dict)
    _undrawn: dict[str, None] = attrs.field(factory=dict)
    _changes: list[dict[str, Any]] = attrs.field(factory=list)
    _sequence: int = 0
    _page_sequence: int = -1
    _page_due: float = 0.0
    _beat: int = 0
    _beat_due: float = 0.0
    _causes: list[dict[str, Any]] = attrs.field(factory=list)
    _error: ArtifactError | None = None
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _over: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        where: bool | str | os.PathLike[str],
        root: Path,
        step: str,
        flow: Flow,
        instances: Iterable[str],
    ) -> LiveIndex:
        """Begin a page about a sweep that begins.

        Args:
            where: The page's folder, from the caller's on; True for `runs/`, whose page is
                about all that is there.
            root: The project root.
            step: The sweep's step.
            flow: Its flow.
            instances: The names of its instances, as far as they are known.

        Raises:
            ArtifactError: The folder cannot be made.
        """
        planned = tuple(instances)
        everything = isinstance(where, bool)
        folder = runs_dir(root) if isinstance(where, bool) else target_folder(where, root, "live")
        site = Site.open(
            root, folder, title=root.name if everything else step, figures=True,
            full=len(planned) <= FULL_FIGURES, html=HtmlOptions(),
        )  # fmt: skip
        live = cls(site, step, flow, everything, planned)
        live._start()
        return live

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="ductaflow-live", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take note of an event; nothing is written here."""
        key = f"{event.step}/{event.instance}"
        with self._lock:
            if isinstance(event, InstanceStarted):
                self._began[key] = jsonio.now()
                self._ended.pop(key, None)
                cells = sum(cell.runs for cell in self.flow.cells) + 2
                self._attempts[key] = {"cell": 0, "cells": cells}
            elif isinstance(event, CellFinished):
                attempt = self._attempts.setdefault(key, {})
                attempt["cell"] = attempt.get("cell", 0) + 1
            elif isinstance(event, OutputLine):
                self._attempts.setdefault(key, {})["line"] = event.text[:LONGEST_LINE]
            elif isinstance(event, InstanceFinished):
                self._attempts.pop(key, None)
                self._began.pop(key, None)
                self._ended[key] = event.run.record
            self._changed[key] = None

    def close(self) -> None:
        """The sweep is over: write it all once more, for good."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            warnings.warn(
                f"the page {self.site.page} is not up to date: {self._error}",
                RuntimeWarning,
                stacklevel=2,
            )

    # --- on the writer's thread ----------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._begin()
            while not self._over.wait(EVERY):
                self._tick()
            self._finish()
        except ArtifactError as e:  # the sweep goes on; its caller hears of it in the end
            self._error = e

    def _begin(self) -> None:
        """All that is there already, and what is to come."""
        if self.all_steps:
            for facts in select(None, self.site.root):
                self._facts[facts.id] = facts
        for name in self._planned:
            key = f"{self.step}/{name}"
            if key not in self._facts:
                folder = instance_dir(self.site.root, self.step, name)
                record = RunRecord(Status.PLANNED, str(self.flow.path), self.step, name, "")
                there = read_facts(folder, self.site.root)
                self._facts[key] = there or facts_of(record, folder, self.site.root)
        for key, facts in self._facts.items():
            known = self.site.media.known(facts) if self.site.media is not None else None
            if known is not None:
                self._media[key] = known
            elif facts.light is not Light.PLANNED:
                self._undrawn[key] = None
        self._count_causes()
        self._write_page()
        self._write_status(done=False)

    def _tick(self) -> None:
        with self._lock:
            changed = list(self._changed)
            self._changed.clear()
            ended = {key: self._ended.pop(key) for key in changed if key in self._ended}
            running = {key: dict(self._attempts.get(key, {})) for key in changed}
            began = {key: self._began[key] for key in changed if key in self._began}
        for key in changed:
            self._look(key, ended.get(key), began.get(key))
        drawn = self._draw()
        for key in dict.fromkeys([*changed, *drawn]):
            if key in self._facts:
                self._changes.append(
                    row(self._facts[key], self._media.get(key), running.get(key, {}))
                )
                self._sequence += 1
        del self._changes[:-WINDOW]
        if any(self._facts[key].light is Light.ERROR for key in ended if key in self._facts):
            self._count_causes()
        now = time.monotonic()
        behind = self._sequence - self._page_sequence
        if behind > WINDOW // 2 or (behind and now >= self._page_due):
            self._write_page()
        if changed or drawn or now >= self._beat_due:
            self._write_status(done=False)

    def _look(self, key: str, ended: RunRecord | None, began: str | None) -> None:
        """Bring up to date what is known of an instance."""
        step, _, name = key.partition("/")
        folder = instance_dir(self.site.root, step, name)
        if ended is not None:
            facts = read_facts(folder, self.site.root)
            if facts is None or facts.record.started != ended.started:
                facts = facts_of(ended, folder, self.site.root)
            self._facts[key] = facts
            self._undrawn[key] = None
        elif began is not None:
            flow = self.flow.path.name
            record = RunRecord(
                Status.RUNNING, flow, step, name, began, fingerprints={"config": "running"}
            )
            self._facts[key] = facts_of(record, folder, self.site.root)
            self._media.pop(key, None)

    def _draw(self) -> list[str]:
        """Make figures ready, for a while; whose they are."""
        end, drawn = time.monotonic() + FIGURES_FOR, []
        while self._undrawn and time.monotonic() < end:
            key = next(reversed(self._undrawn))  # the newest is looked at first
            del self._undrawn[key]
            facts = self._facts[key]
            media = self.site.of(facts) if facts.light is not Light.RUNNING else None
            if media is not None:
                self._media[key] = media
                drawn.append(key)
        return drawn

    def _count_causes(self) -> None:
        self._causes = causes(list(self._facts.values()), self.site.root)

    def _write_status(self, *, done: bool) -> None:
        self._beat += 1
        self._beat_due = time.monotonic() + BEAT
        tally = counts(list(self._facts.values()))
        status = {
            "session": self._session,
            "from": self._sequence - len(self._changes),
            "sequence": self._sequence,
            "done": done,
            "beat": self._beat,
            "changes": self._changes,
            "causes": self._causes,
            "line": ", ".join(f"{number} {name}" for name, number in tally.items() if number),
        }
        jsonio.write_atomic(self.site.status, f"ductaflowStatus({script_json(status)});\n")

    def _write_page(self) -> None:
        began = time.monotonic()
        instances = list(self._facts.values())
        rows = [
            row(facts, self._media.get(key), dict(self._attempts.get(key, {})))
            for key, facts in self._facts.items()
        ]
        live = {"session": self._session, "sequence": self._sequence, "step": self.step}
        graph = graph_of(instances, self.site.root)
        self.site.write_page(rows, instances, graph, live=live)
        self._page_sequence = self._sequence
        now = time.monotonic()
        self._page_due = now + max(PAGE_EVERY, PAGE_SHARE * (now - began))

    def _finish(self) -> None:
        self._tick()
        left = [facts for facts in self._facts.values() if facts.light is not Light.PLANNED]
        self._write_status(done=True)
        if left:
            self.site.write(left)
        else:
            self._write_page()
