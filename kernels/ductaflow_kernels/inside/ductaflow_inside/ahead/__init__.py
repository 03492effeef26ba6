"""What is done for a kernel before its flow asks for it."""
