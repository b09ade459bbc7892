"""Questions about a host, answered with evidence."""
