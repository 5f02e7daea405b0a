"""
The output folder: parts that appear whole or not, and what a later run needs to continue.

    OUT/manifest.json  the settings, the input files, and how they were divided into partitions
    OUT/rows/part-*    the rows of each partition that have been scored
    OUT/state/part-*   what each partition contained; its existence marks the partition as done
    OUT/bad.jsonl      the rows that could not be scored
    OUT/.lock          an empty file, which a run keeps locked

The name of a part depends only on its place in the input, and it replaces another part of the same
name as a whole. So no row can be written twice, whatever was killed and repeated.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from qwen3_reranker.bulk.locking import locked
from qwen3_reranker.bulk.partitions import InputFile, Loaded, Partition, Range
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.errors import InputError
from qwen3_reranker.output_files import write_atomically

__all__ = ["Counts", "Output", "is_output"]

_MANIFEST = "manifest.json"
# The folders of the output, by what they contain.
_ROWS, _STATE = "rows", "state"


@dataclass(frozen=True, slots=True)
class Counts:
    """
    What partitions contained.

    Attributes:
        rows: The rows, including bad ones.
        documents: The documents of the rows that were scored.
        bad: The rows that could not be scored.
    """

    rows: int = 0
    documents: int = 0
    bad: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows, self.documents + other.documents, self.bad + other.bad
        )


def is_output(folder: Path) -> bool:
    """Return whether a folder is the output of a run, which may be incomplete."""
    return (folder / _MANIFEST).is_file() and (folder / _ROWS).is_dir()


@dataclass(frozen=True, slots=True)
class Output:
    """
    An output folder.

    Attributes:
        folder: Its path, which must be the same on all machines that write to it.
        suffix: The suffix of the parts, such as ".parquet".
    """

    folder: Path
    suffix: str

    @property
    def bad_file(self) -> Path:
        """The file of the rows that could not be scored."""
        return self.folder / "bad.jsonl"

    def require_folder(self) -> None:
        """
        Check that the folder exists or could be created, before the work for it.

        Raises:
            InputError: It, or what is above it, is not a folder.
        """
        existing = [path for path in (self.folder, *self.folder.parents) if os.path.lexists(path)]
        if existing and not existing[0].is_dir():
            raise InputError(f"{existing[0]} is not a folder: give another folder for the output")

    @contextlib.contextmanager
    def open(
        self,
        source: Path,
        files: Sequence[InputFile],
        settings: dict[str, Any],
        plan: Callable[[], Iterable[Partition]],
    ) -> Iterator[list[Partition]]:
        """
        Keep other runs out of the folder, and yield the partitions of the input.

        They are those of the run that created the output, or new ones.

        Args:
            source: The input folder.
            files: The input files.
            settings: Everything that the output depends on besides, as JSON values.
            plan: Divides the files into partitions. It is called only for a new output.

        Raises:
            InputError: The output was created with other files or settings, the folder has other
                content, or another run is writing to it.
        """
        # Nothing is written if the input cannot be read.
        planned = None if self._manifest.exists() else self._plan(plan)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock") as held:
            if not held:
                raise InputError(
                    f"another run is writing to {self.folder}: wait until it ends, or give another "
                    "folder for the output"
                )
            if planned is None or self._manifest.exists():  # another run may have just created it
                partitions = self._continue(source, files, settings)
            else:
                partitions = planned
                record = {
                    "settings": settings,
                    "files": [file._asdict() for file in files],
                    "partitions": [[part.number, *part.range] for part in partitions],
                }
                write_atomically(self._manifest, json.dumps(record, indent=1).encode())
            for name in (_ROWS, _STATE):
                (self.folder / name).mkdir(exist_ok=True)
            yield partitions

    def is_done(self, partition: Partition) -> bool:
        """Return whether a partition has been written completely."""
        try:
            state = json.loads(self._state(partition).read_bytes())
            return bool(self._part(partition).stat().st_size == state["bytes"])
        except (OSError, ValueError, KeyError):
            return False

    def write(self, partition: Partition, loaded: Loaded, results: list[Result]) -> Counts:
        """Write a partition, all of it or nothing, and return what it contained."""
        part = self._part(partition)
        write_atomically(part, lambda file: loaded.write(file, results))
        bad, documents = [], 0
        for index, (row, result) in enumerate(zip(loaded.rows, results, strict=True)):
            if result.error is not None:
                after, content = loaded.bad_row(index)
                number = partition.range.first + after + 1
                bad.append({"number": number, "reason": result.error, "row": content})
            elif not isinstance(row, InputError):
                documents += len(row.documents)
        counts = Counts(len(results), documents, len(bad))
        state = {"bytes": part.stat().st_size, "counts": asdict(counts), "bad": bad}
        # Rows of Parquet may have values that JSON does not, such as dates.
        write_atomically(self._state(partition), json.dumps(state, default=str).encode())
        return counts

    def finish(self, source: Path, partitions: Sequence[Partition]) -> Counts:
        """
        Write the file of bad rows, in the order of the input, and return the sum of all counts.

        Temporary files that killed runs have left are removed.

        Args:
            source: The input folder.
            partitions: All partitions of the input, which must be done.
        """
        total = Counts()

        def write(file: IO[bytes]) -> None:
            nonlocal total
            for partition in partitions:
                state = json.loads(self._state(partition).read_bytes())
                total += Counts(**state["counts"])
                name = Path(partition.file).relative_to(source).as_posix()
                for bad in state["bad"]:
                    file.write(json.dumps({"file": name, **bad}).encode() + b"\n")

        write_atomically(self.bad_file, write)
        for folder in (self.folder, self.folder / _ROWS, self.folder / _STATE):
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
        return total

    @property
    def _manifest(self) -> Path:
        return self.folder / _MANIFEST

    def _part(self, partition: Partition) -> Path:
        return self.folder / _ROWS / f"{partition.name}{self.suffix}"

    def _state(self, partition: Partition) -> Path:
        return self.folder / _STATE / f"{partition.name}.json"

    def _plan(self, plan: Callable[[], Iterable[Partition]]) -> list[Partition]:
        """Return the partitions of a new output."""
        # Hidden files are left alone, such as what a killed run has left.
        if self.folder.exists() and any(self.folder.glob("[!.]*")):
            raise InputError(
                f"{self.folder} is neither empty nor the output of an earlier run: give another "
                "folder"
            )
        return list(plan())

    def _continue(
        self, source: Path, files: Sequence[InputFile], settings: dict[str, Any]
    ) -> list[Partition]:
        """Return the partitions of the run that created the output, if it was the same run."""
        try:
            record = json.loads(self._manifest.read_bytes())
            earlier = [InputFile(**file) for file in record["files"]]
            self._compare(record["settings"], settings)
            self._compare_files(earlier, files)
            return [
                Partition(number, str(source / files[number].name), Range(*rows))
                for number, *rows in record["partitions"]
            ]
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._manifest} cannot be read ({error!r}): give another folder for the output"
            ) from None

    def _compare(self, earlier: dict[str, Any], now: dict[str, Any]) -> None:
        # A digest comes last, because what can be read explains a difference better.
        for name in sorted({**earlier, **now}, key="model_files".__eq__):
            before, after = earlier.get(name), now.get(name)
            if before != after:
                created = f"without {name}=" if before is None else f"with {name}={before!r}"
                changed = "does not have it" if after is None else f"has {name}={after!r}"
                raise InputError(
                    f"{self.folder} was created {created}, and this run {changed}: give the "
                    "same, or another folder for the output"
                )

    def _compare_files(self, earlier: Sequence[InputFile], now: Sequence[InputFile]) -> None:
        if earlier == list(now):
            return
        names = {file.name for file in {*earlier} ^ {*now}}
        raise InputError(
            f"{min(names, default='the input')} is not the file that it was when {self.folder} was "
            "created (its size or time differs): give another folder for the output"
        )
