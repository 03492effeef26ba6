"""Texts for people, terminals and generated files.

Owns how a text is quoted, escaped, linked and dated. Imports `errors` only.
"""
