"""What runs in the interpreter of a kernel: it needs that one's ipykernel, and nothing else."""
