"""Where things are on a host: one answer for Ansible, units and servers."""

import posixpath

from runtime.spec.base import Frozen
from runtime.spec.fleet import Site


class Paths(Frozen):
    """The directories of one fleet on a host.

    Attributes:
        config: one JSON file for each stage.
        identity: one directory for each stage, with its key and certificates.
        code: virtual environments, shared by the fleets of a host.
        releases: one directory for each release of this project that the fleet has had.
        logs: where supervisord writes; systemd has its journal.
        run: sockets and process ids of supervisord.
        units: where supervisord's programs are described.
        cache: what servers may keep and can do without; systemd makes it, below /var/cache.
        systemd: where systemd looks for units that an administrator has installed.
        parents: directories around these, which other fleets of the host may share, the innermost
            first; what removes a fleet removes them once they are empty.
    """

    config: str
    identity: str
    code: str
    releases: str
    logs: str
    run: str
    units: str
    cache: str
    parents: tuple[str, ...]
    systemd: str = "/etc/systemd/system"


def paths(site: Site) -> Paths:
    """Return the directories of a site's hosts, by its scope or below its own root."""
    name, root = site.name, site.install.root
    if root is None and site.install.scope == "system":
        return Paths(
            config=f"/etc/stagefleet/{name}",
            identity=f"/var/lib/stagefleet/{name}/identity",
            code="/opt/stagefleet",
            releases=f"/opt/stagefleet/releases/{name}",
            logs=f"/var/log/stagefleet/{name}",
            run=f"/run/stagefleet/{name}",
            units=f"/etc/stagefleet/{name}/programs",
            cache=_cache(name),
            parents=(
                f"/var/lib/stagefleet/{name}",
                "/var/lib/stagefleet",
                "/etc/stagefleet",
                "/opt/stagefleet/releases",
                "/opt/stagefleet",
                "/var/log/stagefleet",
                "/run/stagefleet",
                posixpath.dirname(_cache(name)),
            ),
        )
    shared = () if root else ("~/.local/share/stagefleet",)
    root = root or f"~/.local/share/stagefleet/{name}"
    cache = f"{root}/cache"
    if site.install.scope == "system":
        cache = _cache(name)
        shared = (*shared, posixpath.dirname(cache))
    return Paths(
        config=f"{root}/config",
        identity=f"{root}/identity",
        code=f"{root}/code",
        releases=f"{root}/code/releases",
        logs=f"{root}/logs",
        run=f"{root}/run",
        units=f"{root}/programs",
        cache=cache,
        parents=(f"{root}/code", root, *shared),
    )


def _cache(name: str) -> str:
    return f"/var/cache/stagefleet/{name}"


def authority_path(site: Site) -> str:
    """Return where, on the operator's machine, the fleet's certificate authority is."""
    return site.authority or f"~/.config/stagefleet/{site.name}"


def at_home(value: object, home: str) -> object:
    """Return plain data with every text that starts with `~/` below this home directory."""
    if isinstance(value, str):
        return f"{home}{value[1:]}" if value.startswith("~/") else value
    if isinstance(value, dict):
        return {key: at_home(item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [at_home(item, home) for item in value]
    return value
