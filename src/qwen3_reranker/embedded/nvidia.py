"""Ask the NVIDIA driver for this machine's GPUs."""

from __future__ import annotations

import shutil
import subprocess

__all__ = ["query_gpus"]


def query_gpus(*fields: str, units: bool = True) -> list[str]:
    """
    Query fields of each GPU with nvidia-smi.

    Args:
        fields: The names of the fields, such as "name" or "memory.total".
        units: Whether each number is followed by its unit.

    Returns:
        One line per GPU, with the fields separated by commas. Empty if there is no driver or GPU,
        or if nvidia-smi does not answer within 30 seconds.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    style = "csv,noheader" if units else "csv,noheader,nounits"
    command = [program, f"--query-gpu={','.join(fields)}", f"--format={style}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
