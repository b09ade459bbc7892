"""Models on disk: import a checkpoint once, then load or copy any span of it.

Start with `manifest.py` (what a model directory holds) and `importer.py` (how one is made).
"""
