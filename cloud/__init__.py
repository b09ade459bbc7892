"""The operator's side of the clouds: which rules a fleet needs there, and who makes them."""
