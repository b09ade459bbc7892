"""Amazon's cloud: security groups, and instances."""
