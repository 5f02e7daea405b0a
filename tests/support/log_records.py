"""The log records of the package, collected at every level."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Records", "recorded"]


class Records(logging.Handler):
    """Collects the records of the package."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def messages(self, *levels: int, module: str = "") -> list[str]:
        """Return the messages of these levels, of one module of the package."""
        return [
            record.getMessage()
            for record in self.records
            if record.levelno in levels and record.name.startswith(f"qwen3_reranker{module}")
        ]

    @property
    def loud(self) -> list[str]:
        """The messages above DEBUG."""
        return self.messages(logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


@contextmanager
def recorded() -> Iterator[Records]:
    """Collect the records of the package until the block ends."""
    logger, records = logging.getLogger("qwen3_reranker"), Records()
    level = logger.level
    logger.addHandler(records)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.removeHandler(records)
        logger.setLevel(level)
