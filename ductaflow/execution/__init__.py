"""One instance on one kernel.

Owns the calls for one run, the run itself from plan to record, and the files that it leaves. The
door is `conductor`; `runner` is what sweeps use. Imports `reuse`, `progress`, `history`, `plans`,
`documents` and what lies below them.
"""
