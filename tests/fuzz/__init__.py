"""Inputs that nobody would give: an answer, or an error of the package, and never a hang."""
