"""The APIs that a gateway speaks, one module for each, with an `Api` named `API`."""
