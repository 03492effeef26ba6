"""The versions of ductaflow's own rules that decide what a run comes to.

A run is reused only by the rules that it was made by: what we do to a flow goes into its result as
its code does. The version of ductaflow says little about that, since nearly all of its changes
leave every result as it was; so each set of rules has a number, and an ordinary upgrade reruns
nothing.

Raise a number when a run might come out otherwise than before, in any file but its report, or when
older records lack what reuse needs. Do not raise it for what only looks otherwise in the HTML, nor
for speed, nor where a failure becomes a success. `tests/reuse/test_rules.py` notices what it can.
"""

from __future__ import annotations

from collections.abc import Mapping

RULES: Mapping[str, tuple[int, str]] = {
    "config": (1, "how a config is made into variables of the flow"),
    "outputs": (1, "how the output of cells is kept"),
    "kernels": (1, "how kernels run cells and come to their end"),
    "observation": (1, "how it is found out what a run depends on"),
}
"""For each set of rules its version, and what it is about.

- `config`: `plans/`: `config` (normalisation), `variables`, `literal`, `cells`, `languages`.
- `outputs`: `documents/`: `outputs`, `terminal`, `widgets`, `notebook`.
- `kernels`: what `ductaflow_kernels` makes a flow see, and when it calls a cell failed.
- `observation`: `reuse/`: `observation`, `places`, and what kernels and the observer note. Where
  more is noted than before, runs whose records lack it are not known to be fresh.
"""

RULES_TOLD = " ".join(f"{name}:{version}" for name, (version, _) in RULES.items())
"""The versions as a record has them."""


def changed_rules(told: str) -> list[str]:
    """What has changed since a run.

    Args:
        told: `RULES_TOLD` as it was then, or the empty string.

    Returns:
        What the rules are about that were others.
    """
    then = dict(part.partition(":")[::2] for part in told.split())
    found = [what for name, (version, what) in RULES.items() if then.get(name) != str(version)]
    later = [f"{name!r}, which this version does not know" for name in then if name not in RULES]
    return found + later
