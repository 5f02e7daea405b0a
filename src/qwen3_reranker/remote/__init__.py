"""Score with remote servers: detection, requests, retries and failover."""
