"""The `stagefleet` command; each room here is one family of verbs."""
