"""Many instances.

Owns sweeps from table to `Runs`, and what is done to all runs: updates, checks, verification.
Imports `execution`, `upkeep`, `delivery`, `report`, `progress` and what lies below them.
"""
