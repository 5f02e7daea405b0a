"""The embedded engine: vLLM in a process of its own, and the scorer that uses it."""
