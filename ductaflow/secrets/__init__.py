"""Values that no artifact may show.

Owns references to secrets, the machine's key for hashes, and masking. Imports `errors` only.
"""
