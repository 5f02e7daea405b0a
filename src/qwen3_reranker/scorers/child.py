"""
What runs first in the engine's process, in the place of the user's main module.

A spawned process imports its parent's main module, so a script without a `__main__` guard would
start a second engine there, and die. The engine needs nothing of it; it gets this one instead.
"""

from __future__ import annotations

import logging
import os
import threading
import time

__all__ = ["set_log_level"]


def set_log_level() -> None:
    """Apply VLLM_LOGGING_LEVEL to what vLLM says before it sets up its own logging."""
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])


def _follow(parent: int) -> None:
    """End this process when its parent is gone: a killed one could not stop its engine."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__mp_main__":
    set_log_level()
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
