"""A swarm on a simulated clock: the same decisions and protocol, on servers that are not there."""
