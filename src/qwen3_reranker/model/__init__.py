"""What is known of a checkpoint: its files, its prompt and its tokenizer."""
