"""How far runs are, for whoever waits for them.

Owns progress in a terminal, in Jupyter and in a log. Imports `history`, `flowkit`, `plans`.
"""
