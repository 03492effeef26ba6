"""Where kernels come from.

Owns plain, spawned and forked kernels behind the Protocol `KernelSource`, and what a kernel started
in advance depends on. Imports `session`, `processes`.
"""
