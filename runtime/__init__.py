"""Everything of stagefleet that runs on a host, and the commands that drive it."""

from importlib.metadata import version

__version__ = version("stagefleet")
