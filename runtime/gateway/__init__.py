"""The way in: a small HTTP API at stage 0, on loopback only."""
