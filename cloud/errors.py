"""What goes wrong in a cloud, in the operator's words."""

from runtime.spec.errors import StagefleetError


class CloudError(StagefleetError):
    """A cloud refused, is not reachable, or holds what must not be touched."""
