"""Where things lie.

Owns the project root, the names and paths under `runs/`, settings, workers, and new projects.
Imports `model`, `files`, `text`.
"""
