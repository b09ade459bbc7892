"""Azure: network security groups."""
