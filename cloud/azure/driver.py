"""A fleet's firewall rules in Azure: security groups of its hosts, and who is in them.

An instance is known by its network interface: the one with the tags `names.FLEET_MARK` and
`names.HOST_MARK`. While a network interface has no network security group, whatever its subnet
lets in reaches the host: joining a group closes it, and leaving opens it again.
"""

from collections.abc import Callable, Sequence

from cloud.azure.client import APPLICATION_GROUPS, INTERFACES, NETWORK_GROUPS, Client, Patience
from cloud.azure.fold import Names, problems
from cloud.azure.state import Survey, state, survey
from cloud.azure.work import Work
from cloud.changes import Change
from cloud.rules import State
from runtime.spec.clouds import AzureCloud

Done = Callable[[Change], None]


class Azure:
    """One resource group."""

    def __init__(
        self, cloud: AzureCloud, fleet: str, owner: str, patience: Patience | None = None
    ) -> None:
        """Make what talks to it; asks nobody.

        Args:
            cloud: where it is.
            fleet: the fleet's name.
            owner: the mark of the fleet's authority.
            patience: how long Azure is waited for.

        Raises:
            CloudError: what is said about credentials cannot be read.
        """
        self._cloud = cloud
        self._owner = owner
        self._client = Client(cloud, patience or Patience())
        scope = f"/subscriptions/{cloud.subscription}/resourceGroups/{cloud.resource_group}"
        self._names = Names(scope, fleet)

    def problems(self, want: State) -> list[str]:
        """Return which limits of Azure's `want` would exceed; asks nobody."""
        return problems(want)

    def read(self) -> State:
        """Return the groups that bear the fleet's names, and who is in them, in three lists.

        Raises:
            CloudError: Azure cannot be asked, or two network interfaces say that they are one
                host's.
        """
        return state(self._survey(), self._owner)

    def apply(self, have: State, changes: Sequence[Change], done: Done) -> None:  # noqa: ARG002 - the protocol's signature
        """Make changes, each network security group's at once, and say of each when it is made.

        All hosts are in their application groups before any is shut, and what lets in the others
        is there before what did so until now goes.

        Args:
            have: what `read` has returned; what is there at this moment counts.
            changes: what to do.
            done: is called with each change that is made.

        Raises:
            CloudError: something of others' is in the way, and nothing is made; or Azure refused a
                change, and those before it are made.
        """
        location = self._cloud.location
        Work(self._client, location, self._owner, self._survey(), changes, done).run()

    def _survey(self) -> Survey:
        return survey(
            self._names,
            self._owner,
            self._client.listed(NETWORK_GROUPS),
            self._client.listed(APPLICATION_GROUPS),
            self._client.listed(INTERFACES),
        )
