"""The doctor: what hosts are asked, what follows from their answers, and what changed since."""
