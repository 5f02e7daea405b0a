"""Score a stream of queries concurrently, in order, with bounded memory."""
