"""Google's cloud: firewall rules, and instances."""
