"""Run the command line as `python -m qwen3_reranker`."""

from qwen3_reranker.cli import main

if __name__ == "__main__":
    main()
