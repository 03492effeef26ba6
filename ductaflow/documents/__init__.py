"""What a kernel said, as notebook, log and page.

Owns outputs, widgets, the executed notebook, the log, and `html/`. Imports `project`, `model`,
`files`.
"""
