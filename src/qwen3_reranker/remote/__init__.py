"""Scoring with servers: detection, requests, retries and failover."""
