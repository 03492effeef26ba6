"""A flow as a script: one that runs it, one that needs no ductaflow, files to double-click."""
