"""The one page about many runs: a table, figures, charts, failures, lineage and a comparison.

    folders ──facts──▶ InstanceFacts ──┬─ summary ─▶ bulk_summary.json
       │                               ├─ graph ───▶ who read whose files
       └─media──▶ index_files/         └─ page ────▶ index.html (data, and the bundle of `app/`)

`collation.collate` does it once; `live.LiveIndex` goes on doing it while a sweep runs. What the two
files hold is in README.md beside this module.
"""
