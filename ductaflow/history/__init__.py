"""The runs that are there.

Owns `Run`, `Runs`, records on disk, the index, listings, lineage, locks and events. Imports
`flowkit`, `documents`, `project`, `tables` and what lies below them.
"""
