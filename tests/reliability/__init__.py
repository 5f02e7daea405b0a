"""Load under faults: callers that compare every answer with the reference, and what they found."""
