"""Flows as scripts, and in a debugger.

Owns run scripts, standalone scripts, runners and debugging. Imports `execution` and what lies
below it.
"""
