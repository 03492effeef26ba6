"""What an instance is to run with.

Owns the config, its text in each language, the inserted cells, notes on it, options, and the plan
made of all of them. Imports `flows`, `project`, `secrets`, `files`, `model`.
"""
