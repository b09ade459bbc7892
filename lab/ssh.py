"""How the operator reaches the hosts: with the lab's own key, and knowing theirs."""

from lab.network import inside
from lab.place import Place
from lab.process import run
from lab.topology import ADMINISTRATOR, OPERATOR, Topology


def write_keys(place: Place, lab: Topology) -> None:
    """Make the operator's key and one for each host, and the configuration that names them."""
    hosts = place.ssh / "hosts"
    hosts.mkdir(parents=True, exist_ok=True)
    place.ssh.chmod(0o700)
    for path in (place.ssh / "key", *(hosts / host.name for host in lab.hosts)):
        if not path.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path)
    known = place.ssh / "known_hosts"
    known.write_text(
        "".join(
            f"[{host.seen_as[0]}]:{host.seen_as[1]} {_public(place, host.name)}\n"
            if host.seen_as[1] != 22  # as OpenSSH writes it
            else f"{host.seen_as[0]} {_public(place, host.name)}\n"
            for host in lab.hosts
        )
    )
    aliases = "".join(
        f"Host {host.name}\n  HostName {host.seen_as[0]}\n  Port {host.seen_as[1]}\n"
        for host in lab.hosts
    )
    config = place.state / "ssh_config"
    config.write_text(
        f"{aliases}Host *\n"
        f"  User {ADMINISTRATOR}\n"
        f"  IdentityFile {place.ssh / 'key'}\n"
        "  IdentitiesOnly yes\n"
        # A host with another key than the one it was made with is refused.
        f"  UserKnownHostsFile {known}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
    )


def operator_environment(place: Place) -> dict[str, str]:
    """Return the variables of commands that the operator runs.

    Ansible keeps connections open under names that are made of addresses, which other labs, and
    the rest of the world, have too.
    """
    return {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(place.ssh / "open")}


def ssh(place: Place, host: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    """Return the command that runs a command on a host, as the operator would."""
    config = str(place.state / "ssh_config")
    return inside(place, OPERATOR, "ssh", "-F", config, *options, host, *command)


def _public(place: Place, name: str) -> str:
    return " ".join((place.ssh / "hosts" / f"{name}.pub").read_text().split()[:2])
