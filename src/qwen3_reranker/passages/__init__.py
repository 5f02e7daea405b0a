"""Long documents: divide them into passages, score these, and combine their scores."""
