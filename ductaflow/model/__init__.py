"""The types that all wings speak in.

Owns flows, plans and records as data, facts about files, and the rules' versions. Imports `text`.
"""
