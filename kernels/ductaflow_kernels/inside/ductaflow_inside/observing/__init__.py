"""What a flow, and what its imports, ask and use of the world around them."""
