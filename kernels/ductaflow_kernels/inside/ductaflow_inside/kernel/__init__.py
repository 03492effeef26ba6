"""The kernel of a flow: ipykernel's, with parts replaced."""
