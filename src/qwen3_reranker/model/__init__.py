"""Checkpoints of Qwen3-Reranker: their files, their tokenizer and their prompt."""
