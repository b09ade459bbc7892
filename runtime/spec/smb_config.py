"""What samba is told of a fleet's shares: a server of their own, beside the distribution's."""

from collections.abc import Sequence

from runtime.spec.base import Cidr, Frozen, Port


class Section(Frozen):
    """One share.

    Attributes:
        sources: the networks from which connections may come.
    """

    name: str
    path: str
    writable: bool
    users: tuple[str, ...]
    sources: tuple[Cidr, ...]


def config(sections: Sequence[Section], port: Port, account: str, state: str) -> str:
    """Return a configuration of smbd that offers these shares and nothing else.

    Args:
        sections: the shares.
        port: where it listens.
        account: files are read and written as this one, whoever has logged in.
        state: a directory for what it keeps, passwords among it.
    """
    directories = "".join(
        f"{name} directory = {state}\n" for name in ("private", "lock", "state", "cache", "pid")
    )
    return f"""
[global]
server role = standalone server
server string = stagefleet
smb ports = {port}
disable netbios = yes
server min protocol = SMB3_11
server smb encrypt = required
server signing = mandatory
ntlm auth = ntlmv2-only
restrict anonymous = 2
map to guest = never
wide links = no
load printers = no
printcap name = /dev/null
disable spoolss = yes
passdb backend = tdbsam:{state}/passdb.tdb
ncalrpc dir = {state}/ncalrpc
{directories}logging = file
log file = {state}/log.smbd
max log size = 1000
{"".join(_section(section, account) for section in sections)}"""


def _section(section: Section, account: str) -> str:
    return f"""
[{section.name}]
path = {section.path}
read only = {"no" if section.writable else "yes"}
guest ok = no
valid users = {" ".join(section.users)}
force user = {account}
force group = {account}
create mask = 0660
directory mask = 0770
hosts allow = {" ".join(section.sources)}
hosts deny = ALL
"""


def service(fleet: str, path: str, mounts: Sequence[str]) -> str:
    """Return the unit of systemd that runs it.

    Args:
        fleet: the fleet's name.
        path: the configuration.
        mounts: the units of what it shares.
    """
    needed = " ".join(mounts)
    return f"""
[Unit]
Description=stagefleet {fleet}: shares by SMB
After=network-online.target {needed}
Wants=network-online.target
Requires={needed}

[Service]
Type=notify
ExecStart=/usr/sbin/smbd --foreground --no-process-group --configfile={path}
ExecReload=/bin/kill -HUP $MAINPID
LimitNOFILE=16384
Restart=on-failure
RestartSec=2
NoNewPrivileges=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""
