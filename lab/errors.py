"""What can go wrong with a lab."""

from runtime.spec.errors import StagefleetError


class LabError(StagefleetError):
    """The lab cannot be built, or one of its hosts does not do what it was told."""
