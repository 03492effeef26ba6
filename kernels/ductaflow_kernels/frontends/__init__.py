"""Warm kernels for other Jupyter clients.

Owns the provisioner and the command that installs its kernelspec. Imports `sources`, `processes`.
"""
