"""GPUs of hosts: what is there, which driver, CUDA and torch build fit, and what to do about it."""
