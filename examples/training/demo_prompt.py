"""The reranker's prompt as token ids: a head for the question, a tail for each passage."""

from __future__ import annotations

from tokenizers import Tokenizer

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and"
    ' the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class Prompt:
    """Tokenize questions and passages; a head and a tail together are the whole prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.prefix = tokenizer.encode(PREFIX).ids
        self.suffix = tokenizer.encode(SUFFIX).ids
        yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
        if yes is None or no is None:
            raise ValueError("the vocabulary lacks yes or no")
        self.yes, self.no = yes, no

    def head(self, question: str, instruction: str = INSTRUCTION) -> list[int]:
        """Return the token ids before the passage."""
        text = f"<Instruct>: {instruction}\n<Query>: {question}\n"
        return [*self.prefix, *self.tokenizer.encode(text).ids]

    def body(self, passages: list[str]) -> list[list[int]]:
        """Return the token ids of each passage, without the suffix."""
        texts = [f"<Document>: {passage}" for passage in passages]
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def tail(self, body: list[int], limit: int) -> list[int]:
        """Return the token ids of a passage, truncated to the limit, and of the suffix."""
        return [*body[:limit], *self.suffix]
