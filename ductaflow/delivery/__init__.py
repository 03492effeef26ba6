"""Copies of runs for others.

Owns which files of a run go where, and the stores they go to. Imports `history`, `project`,
`tables`, `files`.
"""
