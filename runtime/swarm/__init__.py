"""Who the servers are and how they find each other."""
