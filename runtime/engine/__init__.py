"""One span's compute: hidden states in, hidden states, logits or tokens out.

`engine.py` is the interface, `reference.py` the engine that runs any supported family exactly.
"""
