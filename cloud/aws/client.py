"""Calls to EC2: with whose credentials, how often, and what an operator reads when they fail."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from cloud.aws.errors import RefusalError, refusal
from runtime.spec.clouds import AwsCloud

_ATTEMPTS: Final = 8
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60
_PAGE: Final = 1000
_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between looks at what takes EC2 a while: what ends lets go of its groups late."""

# Anything signs a request to a cloud that is not Amazon's and tells whoever listens nothing.
_NOBODY: Final = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}

_FAILURES: Final = (ClientError, BotoCoreError, ResponseParserError)


class Ec2:
    """EC2 in one region.

    Attributes:
        client: boto3's.
    """

    def __init__(self, cloud: AwsCloud, sleep: Callable[[float], None]) -> None:
        """Make a client; asks nobody.

        Args:
            cloud: where it is.
            sleep: waits for as many seconds.

        Raises:
            CloudError: what is said about credentials cannot be read.
        """
        self._cloud = cloud
        self._sleep = sleep
        try:
            self._session = Session(region_name=cloud.region)
            self.client = _client(self._session, cloud)
        except (BotoCoreError, ValueError) as error:
            raise refusal(error, "its start", cloud, set) from error

    def call(self, operation: str, **parameters: object) -> dict[str, Any]:
        """Return the answer to one call.

        Args:
            operation: boto3's name of it.
            **parameters: as the API names them.

        Raises:
            RefusalError: it failed, however often it was repeated.
        """
        try:
            answer: dict[str, Any] = getattr(self.client, operation)(**parameters)
        except _FAILURES as error:
            raise self._refusal(error, operation) from error
        return answer

    def all(self, operation: str, key: str, **parameters: object) -> Iterator[dict[str, Any]]:
        """Yield what a call lists under `key`, page after page.

        Raises:
            RefusalError: as `call`.
        """
        pages = self.client.get_paginator(operation)
        try:
            for page in pages.paginate(**parameters, PaginationConfig={"PageSize": _PAGE}):
                yield from page[key]
        except _FAILURES as error:
            raise self._refusal(error, operation) from error

    def patiently(
        self, codes: Collection[str], operation: str, **parameters: object
    ) -> dict[str, Any]:
        """Return the answer to a call that is repeated for a minute while it is refused so.

        Raises:
            RefusalError: as `call`.
        """
        for seconds in _WAITS:
            try:
                return self.call(operation, **parameters)
            except RefusalError as refused:
                if refused.code not in codes:
                    raise
            self._sleep(seconds)
        return self.call(operation, **parameters)

    def wait_until(self, seen: Callable[[], bool]) -> None:
        """Look again and again, for a minute at most, until something is seen."""
        for seconds in _WAITS:
            if seen():
                return
            self._sleep(seconds)

    def _refusal(self, error: Exception, operation: str) -> RefusalError:
        action = self.client.meta.method_to_api_mapping[operation]
        return refusal(error, action, self._cloud, self._regions)

    def _regions(self) -> set[str]:
        return {
            region
            for partition in self._session.get_available_partitions()
            for region in self._session.get_available_regions("ec2", partition)
        }


def _client(session: Session, cloud: AwsCloud) -> Any:  # noqa: ANN401 - made at run time
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
    )
    settings = {"endpoint_url": cloud.endpoint, "config": config}
    # Where requests go may be said in the environment or in a profile, too: only a client knows.
    client = session.client("ec2", **settings, **_NOBODY)
    if client.meta.endpoint_url.startswith("http://"):
        return client
    return session.client("ec2", **settings)
