"""The input of a run: files of one format, which must not change until the run ends."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from qwen3_reranker.bulk.jsonl import JsonLines
from qwen3_reranker.bulk.output import is_output
from qwen3_reranker.bulk.partitions import FileFormat, InputFile, Loaded, Partition
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.errors import InputError, MissingDependencyError

__all__ = ["FormatName", "Input"]

FormatName = Literal["jsonl", "parquet"]
"""A format of files, and the suffix of the output's."""

_FORMATS: dict[str, FormatName] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_COMPRESSED = {".bz2", ".gz", ".lz4", ".xz", ".zip", ".zst"}


@dataclass(frozen=True, slots=True)
class Input:
    """
    The files of a run, as they were when it started.

    Attributes:
        folder: The folder of the files, which must be the same on all machines that read them.
        format: The format of all files.
        files: The files, in the order of their rows.
    """

    folder: Path
    format: FormatName
    files: Sequence[InputFile]

    @classmethod
    def find(cls, source: Path) -> Input:
        """
        Return the input that a file or a folder contains.

        Hidden files are left out, and so are the outputs of runs, which may be below the folder.

        Args:
            source: The absolute path of a file or a folder.

        Raises:
            InputError: There is no input, or it is not of one format that can be read.
            OSError: A folder or a file cannot be read.
        """
        if source.is_dir():
            if is_output(source):
                raise InputError(
                    f"{source} is the output of a run: give {source / 'rows'} to read its rows"
                )
            folder, files = source, sorted(_files_below(source))
        elif source.is_file():
            folder, files = source.parent, [source]
        elif source.exists():
            raise InputError(
                f"{source} is neither a file nor a folder: write the rows to a file first, because "
                "they are read more than once"
            )
        else:
            raise InputError(f"{source} does not exist: give a file or a folder")
        names = [file.relative_to(folder) for file in files]
        kind = _format_of(source, names)
        return cls(folder, kind, [InputFile.read(folder, name.as_posix()) for name in names])

    def plan(self, columns: Columns, target: int) -> Iterator[Partition]:
        """
        Divide the files into partitions.

        Args:
            columns: The columns to read.
            target: The approximate size of a partition in bytes.

        Raises:
            InputError: A file cannot be read, lacks columns, or has changed.
            OSError: A file cannot be read.
        """
        for number, file in enumerate(self.files):
            path = str(self.folder / file.name)
            for rows in _file_format(self.format).plan(path, columns, target):
                yield Partition(number, path, rows)
            self._check(file)

    def load(self, partition: Partition, columns: Columns) -> Loaded:
        """
        Read a partition.

        Args:
            partition: The partition.
            columns: The columns to read.

        Raises:
            InputError: The file cannot be read, or has changed.
            OSError: The file cannot be read.
        """
        try:
            return _file_format(self.format).load(partition.file, partition.range, columns)
        finally:  # a file that has changed may be one that cannot be read
            self._check(self.files[partition.number])

    def check(self) -> None:
        """
        Check that the files are still what they were when the run started.

        Raises:
            InputError: A file has changed.
            OSError: A file does not exist anymore.
        """
        for file in self.files:
            self._check(file)

    def _check(self, file: InputFile) -> None:
        if InputFile.read(self.folder, file.name) != file:
            raise InputError(
                f"{self.folder / file.name} has changed since the run started (its size or time "
                "differs): run again with another folder for the output when nothing writes to it"
            )


def _file_format(name: FormatName) -> FileFormat:
    """
    Return a format.

    Raises:
        MissingDependencyError: It needs a library that is not installed.
    """
    if name == "jsonl":
        return JsonLines()
    try:
        from qwen3_reranker.bulk.parquet import Parquet
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet files need pyarrow: pip install 'qwen3-reranker[ray]'"
        ) from error
    return Parquet()


def _files_below(source: Path) -> Iterator[Path]:
    """Yield the files at any depth that may be input, by their names."""
    for name, folders, files in os.walk(source, onerror=_fail):
        folder = Path(name)
        folders[:] = [each for each in folders if _is_visible(each)]
        folders[:] = [each for each in folders if not is_output(folder / each)]
        for path in (folder / each for each in files if _is_visible(each)):
            *_, inner, last = ["", "", *(suffix.lower() for suffix in path.suffixes)]
            if last in _FORMATS or (last in _COMPRESSED and inner in _FORMATS):
                yield path


def _fail(error: OSError) -> NoReturn:
    raise error


def _is_visible(name: str) -> bool:
    return name[0] not in "._"


def _format_of(source: Path, names: Collection[Path]) -> FormatName:
    """Return the format that all files have, by their names."""
    if not names:
        raise InputError(f"{source} has no file whose name ends in {', '.join(_FORMATS)}")
    suffixes = {name.suffix.lower(): name for name in names}
    for suffix, name in suffixes.items():
        if suffix in _COMPRESSED:
            raise InputError(f"{name} is compressed, and cannot be read in parts: decompress it")
    for name in names:
        for part in name.parts[:-1]:
            if "=" in part:
                raise InputError(
                    f"{part!r} in {source} looks like a column that is stored in the names of "
                    "folders, which is not read: use rerank_dataset, or give one of the folders"
                )
    kind, *others = {_FORMATS.get(suffix) for suffix in suffixes}
    if others:
        raise InputError(
            f"{source} has files in {', '.join(sorted(suffixes))}: give one format at a time"
        )
    if kind is None:  # of a file that was given itself
        raise InputError(f"the name of {source} does not end in {', '.join(_FORMATS)}")
    return kind
