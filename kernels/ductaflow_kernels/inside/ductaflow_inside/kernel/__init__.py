"""The kernel of a flow: ipykernel's, with parts replaced.

`assembly` puts them together. It, and modules with classes of others' as bases, import ipykernel.
"""
