"""Examples that the demo model ranks well: questions about Python's standard library."""

from __future__ import annotations

from qwen3_reranker.playground.inputs import Inputs

__all__ = ["EXAMPLES"]

_FILES = """
shutil.copytree(src, dst): Recursively copy a directory tree and return the destination directory.

os.rmdir(path): Remove a directory, which must be empty.

os.listdir(path): Return a list containing the names of the files in the directory.

shutil.rmtree(path): Recursively delete a directory tree.

os.remove(path): Remove a file (same as unlink()).

tempfile.TemporaryDirectory: Create and return a temporary directory.

os.makedirs(name): Super-mkdir; create a leaf directory and all intermediate ones.
""".strip()

_TIME = """
time.sleep(seconds): Delay execution for a given number of seconds.

datetime.datetime.strptime(string, format): Parse a string into a datetime, given a format.

datetime.datetime.strftime(format): Convert a datetime to a string, according to a format.

time.monotonic(): Monotonic clock, cannot go backward.

calendar.isleap(year): Return True for leap years, False for non-leap years.
""".strip()

_ZIP = """
zipfile.ZipFile: Class with methods to open, read, write, close, list zip files.

ZipFile.extract(member, path): Extract a member from the archive to the current working directory, \
using its full name. Its file information is extracted as accurately as possible.

ZipFile.namelist(): Return a list of file names in the archive.

ZipFile.printdir(): Print a table of contents for the zip file.

ZipFile.extractall(path): Extract all members from the archive to the current working directory. \
path specifies a different directory to extract to.

ZipFile.setpassword(pwd): Set default password for encrypted files.

gzip.compress(data): Compress data in one shot and return the compressed string.
""".strip()

_TEXT = """
textwrap.wrap(text, width): Wrap a single paragraph of text, returning a list of wrapped lines.

textwrap.dedent(text): Remove any common leading whitespace from every line in text.

random.choice(seq): Choose a random element from a non-empty sequence.

random.shuffle(x): Shuffle list x in place, and return None.

statistics.median(data): Return the median (middle value) of numeric data.

statistics.stdev(data): Return the square root of the sample variance.

json.dumps(obj): Serialize obj to a JSON formatted string.

json.loads(s): Deserialize s (a string containing a JSON document) to a Python object.

itertools.permutations(iterable): Return successive r-length permutations of elements in the \
iterable.

functools.reduce(function, iterable): Apply a function of two arguments cumulatively to the items \
of an iterable, from left to right, so as to reduce the iterable to a single value.
""".strip()


def _page(*sections: str) -> str:
    """Return one document that consists of several entries."""
    return "\n".join(sections).replace("\n\n", "\n")


EXAMPLES: dict[str, Inputs] = {
    "Delete a folder": Inputs(
        query="How do I delete a folder with everything in it?", text=_FILES, top_n=3
    ),
    "Parse a date": Inputs(
        query="turn text such as 2024-05-17 into a date", text=_TIME, min_score=0.5
    ),
    "Two instructions": Inputs(
        query="extract all files from a zip archive",
        text=_ZIP,
        compare=True,
        other_instruction="Given a question about Python, retrieve the documentation that answers "
        "it",
    ),
    "A long document": Inputs(
        query="extract all files from a zip archive",
        text="\n\n".join([_page(_FILES), _page(_TEXT, _TIME, _FILES, _ZIP), _page(_TIME)]),
        long_documents="passages",
    ),
}
"""The inputs of each example, by its label."""
