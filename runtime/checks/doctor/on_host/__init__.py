"""What runs on hosts: looks, and judges nothing. Only the standard library is there."""
