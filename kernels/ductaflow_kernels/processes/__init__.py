"""Processes and the sockets that lead to them.

Owns starting, watching and ending a process, a kernel's private folder and sockets, and what is
asked of the machine. Imports `errors` and `spec` only.
"""
