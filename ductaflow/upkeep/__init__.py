"""Runs that are no longer wanted, or too large.

Owns removing instances and thinning them. Imports `execution`, `reuse`, `history`, `documents`.
"""
