"""
The APIs that a gateway speaks, one module for each.

Each module for an API that scores has the same names: `NAME`, `Body` (what a client sends, for
validation and for the documentation), `parse` (a `Job` from it), and `EXAMPLE`, an answer.
"""
