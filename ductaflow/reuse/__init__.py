"""Whether an earlier run can be reused.

Owns what a run depended on, what that is now, and the decision. Runs nothing. Imports `history`,
`plans`, `flows`, `secrets` and what lies below them.
"""
