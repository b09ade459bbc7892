"""A fleet whose servers choose their blocks: what has to be true of it before anything starts."""

from collections.abc import Iterator, Mapping
from typing import Final

from runtime.spec.base import Span
from runtime.spec.host import BALANCED, Host, HostServer
from runtime.spec.stage import Balancing, NumBlocks

# A common name has 64 characters at most (RFC 5280, A.1), and the server's follows the host's.
_LONGEST_HOST: Final = 50


def servers_of(host: Host) -> tuple[HostServer, ...]:
    """Return the servers of a host of the group, in the order of their numbers, from 1."""
    return host.servers or (HostServer(),)


def num_blocks_of(server: HostServer, balance: Balancing | None) -> NumBlocks:
    """Return how many blocks a server takes; None: nobody has said it."""
    if server.num_blocks is None and balance is not None:
        return balance.num_blocks
    return server.num_blocks


def balance_problems(
    members: Mapping[str, Host],
    others: Mapping[str, Host],
    balance: Balancing | None,
    fixed: tuple[Span, ...],
    total_blocks: int,
) -> Iterator[str]:
    """Yield why the servers of the group could not serve the model.

    Args:
        members: the hosts of the group, by name.
        others: the other hosts.
        balance: `fleet.balance`.
        fixed: the blocks that stages with a host hold.
        total_blocks: of the model.
    """
    for name, host in others.items():
        if host.servers is not None:
            yield (
                f"host {name} has servers, but is not in the group '{BALANCED}': put it there, or "
                "leave fleet_host.servers out"
            )
    if balance is not None and not members:
        yield (
            f"fleet.balance is given, but no host is in the group '{BALANCED}': put hosts there, "
            "or leave fleet.balance out"
        )
    found = list(_problems(members, balance, total_blocks))
    yield from found
    if members and not found:
        yield from _too_few(members, balance, fixed, total_blocks)


def _problems(
    members: Mapping[str, Host], balance: Balancing | None, total_blocks: int
) -> Iterator[str]:
    for name, host in members.items():
        if len(name) > _LONGEST_HOST or "/" in name:
            yield (
                f"host {name}: its name becomes part of a certificate and of a file; give it one "
                f"without / of at most {_LONGEST_HOST} characters, and its address as ansible_host"
            )
        for number, server in enumerate(servers_of(host), start=1):
            blocks = num_blocks_of(server, balance)
            if blocks is None:
                yield (
                    f"host {name}: how many blocks does its server {number} take? Add "
                    "fleet.balance.num_blocks, a number or auto"
                )
            elif isinstance(blocks, int) and blocks > total_blocks:
                yield (
                    f"host {name}: its server {number} takes {blocks} blocks (num_blocks), but the "
                    f"model has {total_blocks} (model.total_blocks)"
                )


def _too_few(
    members: Mapping[str, Host],
    balance: Balancing | None,
    fixed: tuple[Span, ...],
    total_blocks: int,
) -> Iterator[str]:
    """Yield that blocks would be served by nobody, wherever the servers go."""
    blocks = [
        num_blocks_of(server, balance) for host in members.values() for server in servers_of(host)
    ]
    counts = [each for each in blocks if isinstance(each, int)]
    held = {block for span in fixed for block in range(span.start, span.end)}
    left = total_blocks - len(held)
    missing = left - sum(counts)
    # What auto comes to is known on the host alone.
    if len(counts) < len(blocks) or missing <= 0:
        return
    each = -(-left // len(blocks))
    of_stages = f", and {len(held)} are held by stages" if held else ""
    yield (
        f"the {len(blocks)} servers of the group '{BALANCED}' take {sum(counts)} blocks together"
        f"{of_stages}: {missing} of the model's {total_blocks} blocks would be served by nobody; "
        f"add hosts to the group, or raise num_blocks (to {each}, if it is the same for all)"
    )
