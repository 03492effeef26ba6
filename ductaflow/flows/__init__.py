"""A flow's text.

Owns reading and finding flows, syntax, imports, and what code and commands in them ask for. Runs
nothing. Imports `project`, `model`.
"""
