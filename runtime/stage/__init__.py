"""The process of one stage: it serves its blocks to sessions that pass through."""
