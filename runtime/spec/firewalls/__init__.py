"""What each kind of host firewall has to be told, and what it has been told already: pure text."""
