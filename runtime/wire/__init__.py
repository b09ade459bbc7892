"""What servers say to each other, and the connections they say it over."""
