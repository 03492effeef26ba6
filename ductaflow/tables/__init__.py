"""Control tables and grids, as rows.

Owns reading tables, combining values, and templates filled in from a row. Imports `secrets`.
"""
