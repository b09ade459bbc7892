"""The data links of a host: what they should be, what a host says of them, and what differs."""
