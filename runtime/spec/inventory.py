"""From an inventory to a Fleet: which variables are ours, and how they are read.

Two variables carry the specification: `fleet`, the same for every host, and `fleet_host`, one for
each machine. Both are plain data: `ansible-inventory` does not template, so Jinja is refused. A
third, `fleet_windows`, is for machines with Windows, which are no hosts of the fleet but carry one.
A fourth, `fleet_host_cloud`, is what a cloud says of a host's instance: the plugin
`stagefleet_instances` sets it, keys of `fleet_host` that an operator has not written. And of
Ansible's own variables, `group_names` says which hosts are in the group of those whose servers
choose their blocks.
"""

import difflib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from runtime.spec.base import Frozen, words
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet, Site
from runtime.spec.host import BALANCED, Host
from runtime.spec.network.declared import with_links
from runtime.spec.windows import Windows, windows_problems

SITE_VARIABLE = "fleet"
HOST_VARIABLE = "fleet_host"
CLOUD_VARIABLE = "fleet_host_cloud"
WINDOWS_VARIABLE = "fleet_windows"
GROUPS_VARIABLE = "group_names"
READ_VARIABLES = frozenset(
    {
        *(SITE_VARIABLE, HOST_VARIABLE, CLOUD_VARIABLE, WINDOWS_VARIABLE, GROUPS_VARIABLE),
        *("ansible_host", "ansible_port"),
    }
)
"""Every variable that says something of a fleet."""
_TIMEOUT_SECONDS = 60
_UNSAFE = "__ansible_unsafe"
# Where the playbooks' configuration is, plugins are found that they find.
_CONFIGURATION = {"ANSIBLE_CONFIG": str(Path(__file__).parents[2] / "ansible.cfg")}

Record = TypeVar("Record", bound=Frozen)


class Inventory(Frozen):
    """A fleet, and how Ansible connects to its hosts."""

    fleet: Fleet
    variables: dict[str, dict[str, Any]]

    @property
    def notices(self) -> tuple[str, ...]:
        """What is read otherwise than it is written."""
        return notices(self.variables)


def fleet_of(variables: Mapping[str, Mapping[str, Any]]) -> Fleet:
    """Return the fleet that these variables, by host, describe.

    A host without `fleet_host` is not part of the fleet, unless its instance says that it is, or
    its group.

    Raises:
        SpecError: everything that is wrong with the inventory, one finding a line.
    """
    sites = [host[SITE_VARIABLE] for host in variables.values() if SITE_VARIABLE in host]
    if not sites:
        raise SpecError(
            f"no host of the inventory has the variable '{SITE_VARIABLE}'",
            hint="describe the fleet in group_vars/all/fleet.yml; inventories/sample is a start",
        )
    if any(site != sites[0] for site in sites):
        raise SpecError(
            f"the variable '{SITE_VARIABLE}' differs between hosts",
            hint="keep it in group_vars/all only, and put what differs into fleet_host",
        )
    problems = [problem for name, host in variables.items() for problem in _typos(name, host)]
    problems += _group_typos(variables, sites[0])
    if problems:
        raise SpecError("\n".join(problems))
    site = _read(Site, sites[0], SITE_VARIABLE)
    hosts = {
        name: _read(Host, _with_connection(name, host), f"host {name}")
        for name, host in sorted(variables.items())
        if host.keys() & {HOST_VARIABLE, CLOUD_VARIABLE} or _is_balanced(host)
    }
    balanced = tuple(name for name in hosts if _is_balanced(variables[name]))
    said = {key: getattr(site, key) for key in Site.model_fields}
    try:
        fleet = Fleet(**said, hosts=hosts, balanced=balanced)
    except ValidationError as error:
        raise words(error, Fleet, SITE_VARIABLE) from error
    windows_of(variables, fleet)
    return fleet


def windows_of(variables: Mapping[str, Mapping[str, Any]], fleet: Fleet) -> dict[str, Windows]:
    """Return the Windows machines that these variables, by host, describe.

    Raises:
        SpecError: everything that is wrong with them, one finding a line.
    """
    found = {
        name: _read(Windows, host[WINDOWS_VARIABLE], f"host {name}: {WINDOWS_VARIABLE}")
        for name, host in sorted(variables.items())
        if WINDOWS_VARIABLE in host
    }
    ways = {name: str(variables[name].get("ansible_host", name)) for name in found}
    problems = windows_problems(found, fleet.hosts, ways)
    if problems:
        raise SpecError("\n".join(problems))
    return found


def notices(variables: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what is read otherwise than it is written, and what to write instead.

    The variables are those of an inventory that `fleet_of` has accepted.
    """
    site = next(host[SITE_VARIABLE] for host in variables.values() if SITE_VARIABLE in host)
    written = [(f"{SITE_VARIABLE}.operators", cidr) for cidr in site.get("operators", ())]
    written += [
        (f"{SITE_VARIABLE}.networks", network["cidr"]) for network in site.get("networks", ())
    ]
    written += [
        (f"{SITE_VARIABLE}.access to {row['service']}", cidr)
        for row in site.get("access", ())
        for cidr in row["networks"]
    ]
    found = [
        (where, cidr, str(ipaddress.ip_network(cidr, strict=False))) for where, cidr in written
    ]
    return tuple(
        f"{where}: {cidr} is read as {read}, the whole network; for one address write /32 or /128"
        for where, cidr, read in found
        if "/" in cidr and ipaddress.ip_address(cidr.split("/")[0]) != ipaddress.ip_network(read)[0]
    )


def read_inventory(path: Path) -> Inventory:
    """Return what an Ansible inventory, a file or a directory, says.

    Raises:
        SpecError: Ansible cannot read it, or it does not describe a fleet.
    """
    if not path.exists():
        raise SpecError(f"there is no inventory at {path}", hint="see inventories/ for examples")
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "--list", "-i", str(path)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env=_CONFIGURATION
            | os.environ
            | {
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
                "LC_ALL": "C.UTF-8",
            },
        )
    except FileNotFoundError:
        raise SpecError(
            "ansible-inventory is not installed beside this Python",
            hint="run this command through ./fleet, which installs it",
        ) from None
    except subprocess.TimeoutExpired:
        raise SpecError(
            f"ansible-inventory has not read {path} within {_TIMEOUT_SECONDS} s",
            hint=f"run it by hand to see why: ansible-inventory --list -i {path}",
        ) from None
    if done.returncode != 0:
        raise SpecError(f"ansible-inventory cannot read {path}:\n{done.stderr.strip()}")
    found = json.loads(done.stdout, object_hook=_without_mark)
    variables = found.get("_meta", {}).get("hostvars", {})
    for name, groups in _groups(found).items():
        # As Ansible's own `group_names`, which `ansible-inventory` leaves out.
        variables.setdefault(name, {})[GROUPS_VARIABLE] = sorted(groups)
    for name, host in variables.items():
        for key in (SITE_VARIABLE, HOST_VARIABLE, WINDOWS_VARIABLE):
            _refuse_jinja(host.get(key), f"host {name}: {key}")
    return Inventory(fleet=fleet_of(variables), variables=variables)


def _groups(found: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the groups of each host, those around its own too, from `ansible-inventory --list`."""

    def hosts_in(group: str) -> Iterator[str]:
        said = found.get(group, {})
        yield from said.get("hosts", ())
        for child in said.get("children", ()):
            yield from hosts_in(child)

    groups: dict[str, set[str]] = {name: set() for name in hosts_in("all")}
    for group in found.keys() - {"_meta", "all", "ungrouped"}:
        for name in hosts_in(group):
            groups[name].add(group)
    return groups


def _is_balanced(variables: Mapping[str, Any]) -> bool:
    return BALANCED in variables.get(GROUPS_VARIABLE, ())


def _group_typos(variables: Mapping[str, Mapping[str, Any]], site: object) -> Iterator[str]:
    """Yield that the group's name is written wrong, if it is missed."""
    groups = {group for host in variables.values() for group in host.get(GROUPS_VARIABLE, ())}
    if not isinstance(site, dict) or "balance" not in site or BALANCED in groups:
        return
    for near in difflib.get_close_matches(BALANCED, groups, n=1, cutoff=0.7):
        yield f"fleet.balance is given, but the group is called '{near}'; call it '{BALANCED}'"


def _without_mark(value: dict[str, Any]) -> object:
    """Return a text as it is that Ansible marks as no template: what plugins say is marked so."""
    return value[_UNSAFE] if value.keys() == {_UNSAFE} else value


def _read(model: type[Record], data: object, where: str) -> Record:
    try:
        # JSON keeps the strict models usable: its arrays may become tuples, its texts addresses.
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise words(error, model, where) from error


def _typos(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    known = (SITE_VARIABLE, HOST_VARIABLE, WINDOWS_VARIABLE, CLOUD_VARIABLE)
    for key in variables:
        if key not in known and (
            key.startswith(f"{SITE_VARIABLE}_")
            or difflib.get_close_matches(key, known, cutoff=0.85)
        ):
            near = difflib.get_close_matches(key, known[:3], n=1, cutoff=0)[0]
            yield f"host {name}: unknown variable '{key}'; did you mean '{near}'?"


def _with_connection(name: str, variables: Mapping[str, Any]) -> object:
    """Return a host's data, completed by what Ansible's own variables already say about it."""
    data = variables.get(HOST_VARIABLE) or {}
    if not isinstance(data, dict):
        return data
    completed = _with_cloud(name, data, variables.get(CLOUD_VARIABLE) or {})
    unmade = "instance" in data and "ansible_host" not in variables
    if "addresses" not in completed and "public_ip" not in completed and not unmade:
        # Where Ansible connects to need not be an address of the host itself: listen on all.
        completed |= {"addresses": [str(variables.get("ansible_host", name))], "bind": "all"}
    try:
        completed = with_links(name, completed, variables.get("ansible_host"))
    except ValueError as error:
        raise SpecError(str(error)) from None
    ports = data.get("ports", {})
    if "ansible_port" in variables and isinstance(ports, dict):
        completed["ports"] = {"ssh": int(variables["ansible_port"])} | ports
    return completed


def _with_cloud(name: str, data: dict[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a host's data, completed by what its cloud says of its instance.

    Raises:
        SpecError: the instance is in another cloud than the host.
    """
    if seen and data.get("cloud", seen["cloud"]) != seen["cloud"]:
        raise SpecError(
            f"host {name} is in the cloud '{data['cloud']}', and its instance in '{seen['cloud']}'",
            hint="correct fleet_host.cloud, or take the tag off the instance that is not this host",
        )
    written = data.keys() & {"addresses", "public_ip"}
    # Written by hand, one of the two says how the host is reached; the other would change that.
    return {**({"cloud": seen["cloud"]} if written and seen else seen), **data}


def _refuse_jinja(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_jinja(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_jinja(item, f"{where}.{index}")
    elif isinstance(value, str) and "{{" in value:
        raise SpecError(f"{where}: {value!r} is a template; the specification is plain data")
