"""Who serves which blocks: pure decisions over a snapshot of the swarm, and the loop that acts."""
