"""What stagefleet needs of a cloud; one class for each cloud provides it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from cloud.changes import Change
from cloud.rules import State


class Provider(Protocol):
    """The firewall rules of one cloud, as far as they are a fleet's."""

    def problems(self, want: State) -> list[str]:
        """Return which limits of the cloud `want` would exceed; asks nobody."""

    def read(self) -> State:
        """Return the groups that bear the fleet's names, and the instances that bear its tags.

        How many calls that takes does not depend on the number of rules.

        Raises:
            CloudError: the cloud cannot be asked; with what to do about it.
        """

    def apply(self, have: State, changes: Sequence[Change], done: Callable[[Change], None]) -> None:
        """Make changes, in their order, and say of each when it is made.

        What is there already counts as added, and what is gone as removed. Calls that the cloud
        asks to repeat are repeated.

        Args:
            have: what `read` has returned.
            changes: what to do.
            done: is called with each change that is made.

        Raises:
            CloudError: the cloud refused one; those before it are made.
        """
