"""What flows import; light, because kernels import it too.

Owns `reads`, `record` and the calls of flows that are scripts as well. Imports `plans`, `project`,
`secrets`, `files`, `model`.
"""
