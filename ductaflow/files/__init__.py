"""Files, whatever is in them.

Owns JSON files and atomic writes, compression, hashes of contents, symbolic links, mounts and
databases. Imports `errors` only.
"""
