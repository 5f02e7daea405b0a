"""What the adapters to LangChain and LlamaIndex have in common."""
