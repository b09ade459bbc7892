"""Judges: what was seen of a host in, findings out. Pure."""
