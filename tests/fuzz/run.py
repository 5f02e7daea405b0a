"""
Run the fuzz targets for some minutes, with other inputs each time.

    make fuzz MINUTES=10               # or: python -m fuzz.run [--minutes 10] [TARGET...]

A target is a file of this folder: answers, addresses, prompts, checkpoints or gateway. Rounds of
2000 inputs for each test follow each other. The first failure ends the run, with the smallest input
that Hypothesis finds for it, and exit code 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))


def main() -> None:
    """Run the targets in turn until the time is up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    if unknown := {*arguments.targets} - {*TARGETS}:
        parser.error(f"no target {', '.join(sorted(unknown))}: give some of {', '.join(TARGETS)}")
    deadline, rounds = time.monotonic() + 60 * arguments.minutes, 0
    files = [str(HERE / f"test_{target}.py") for target in arguments.targets or TARGETS]
    while time.monotonic() < deadline:
        for file in files:
            if time.monotonic() > deadline:
                break
            command = [sys.executable, "-m", "pytest", "--quiet", "--hypothesis-profile", "fuzz"]
            if status := subprocess.run([*command, file], check=False).returncode:
                sys.exit(status)
        rounds += 1
    print(f"{rounds} rounds of {', '.join(arguments.targets or TARGETS)} without a failure")


if __name__ == "__main__":
    main()
