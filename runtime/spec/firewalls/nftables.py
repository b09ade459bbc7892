"""nftables: one table of our own for all fleets of a host, and one file of rules for each."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from runtime.spec.answers import Probe, Seen
from runtime.spec.firewalls.seen import DIRECTORY, UNITS
from runtime.spec.openings import Opening
from runtime.spec.undoing import Change, Check, Difference, Step, difference

NAME: Final = "nftables"
TABLE: Final = "inet stagefleet"
UNIT: Final = "stagefleet-firewall.service"
CONFIGURATION: Final = f"{DIRECTORY}/nftables.conf"
RULES: Final = f"{DIRECTORY}/nftables.d"
# What was loaded when it was confirmed, as the kernel tells it: by this, drift is noticed.
_LOADED: Final = f"{DIRECTORY}/nftables.loaded"
_UNIT_PATH: Final = f"{UNITS}/{UNIT}"
_LIST: Final = ("nft", "--stateless", "list", "table", *TABLE.split())
_LOAD: Final = ("nft", "--file", CONFIGURATION)
# Also where there is none.
_DELETE: Final = f"add table {TABLE}; delete table {TABLE}"

WORKS: Final = Probe(name=NAME, command=("nft", "list", "tables"))
_TABLE: Final = Probe(name="nftables_table", command=_LIST, needs=NAME)
_CHAINS: Final = Probe(name="nftables_chains", command=("nft", "list", "chains"), needs=NAME)
PROBES: Final = (WORKS, _TABLE, _CHAINS)
FILES: Final = (f"{RULES}/*.nft", _UNIT_PATH)


def rules(fleet: str, openings: Iterable[Opening]) -> str:
    """Return a fleet's file of rules: one line for each opening, all of one chain."""
    lines = [f"# fleet {fleet}; written by stagefleet, the next run writes it again"]
    for opening in openings:
        family = "ip6" if ipaddress.ip_network(opening.source).version == 6 else "ip"
        lines.append(
            f"{family} saddr {opening.source} {opening.protocol} dport {opening.port} accept "
            f'comment "{fleet}: {opening.purpose}"'
        )
    return "\n".join(lines) + "\n"


def configuration(directory: str = RULES) -> str:
    """Return the table, which lets in what the files of rules in a directory say."""
    return f"""\
# Written by stagefleet. Lets in what the files in {RULES} say, and nothing else.
# Rules of your own: put them into a file of your own there, such as {RULES}/mine.nft,
# and run: systemctl reload {UNIT}

# A file is loaded as one: there is no moment without rules.
add table {TABLE}
delete table {TABLE}

table {TABLE} {{
  chain openings {{
    include "{directory}/*.nft"
  }}

  chain input {{
    type filter hook input priority filter; policy drop;
    ct state vmap {{ established : accept, related : accept, invalid : drop }}
    iifname "lo" accept
    # What packets may be as long as, and who is there: without these, connections hang.
    icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
    icmp type echo-request accept
    icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded }} accept
    icmpv6 type {{ parameter-problem, echo-request, mld-listener-query }} accept
    icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} accept
    # The answer to a question that went to everybody on the link: the host's own address.
    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
    jump openings
  }}
}}
"""


# Debian's nftables.service flushes all rules of the host, ours too, when it starts or reloads.
UNIT_TEXT: Final = f"""\
# Written by stagefleet.
[Unit]
Description=stagefleet: which connections this host lets in
Documentation=man:nft(8)
DefaultDependencies=no
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ProtectSystem=full
ProtectHome=yes
ExecStart=nft --file {CONFIGURATION}
ExecReload=nft --file {CONFIGURATION}
ExecStop=nft "{_DELETE}"

[Install]
WantedBy=sysinit.target
"""


def file_of(fleet: str) -> str:
    """Return the path of a fleet's file of rules."""
    return f"{RULES}/fleet-{fleet}.nft"


def installed(fleet: str, openings: Iterable[Opening], seen: Seen) -> Change | None:
    """Return what makes a host let in these openings, or None if it does that already."""
    text = rules(fleet, openings)
    wanted = {CONFIGURATION: configuration(), file_of(fleet): text, _UNIT_PATH: UNIT_TEXT}
    stale = {path: new for path, new in wanted.items() if seen.files.get(path) != new}
    loaded = seen.answer(_TABLE.name).output
    drifted = seen.files.get(_LOADED, "") != loaded
    if not stale and not drifted and seen.is_on(UNIT):
        return None
    others = {path: old for path, old in seen.files.items() if path.startswith(f"{RULES}/")}
    named = {f"nftables.d/{path.rpartition('/')[2]}": old for path, old in others.items()}
    named[f"nftables.d/{file_of(fleet).rpartition('/')[2]}"] = text
    return Change(
        checks=(
            Check(
                files={"nftables.conf": configuration("{directory}/nftables.d"), **named},
                command=("nft", "--check", "--file", "{directory}/nftables.conf"),
            ),
        ),
        saved=(*wanted, _LOADED),
        steps=(
            *(Step(path=path, text=new) for path, new in stale.items()),
            *([Step(command=("systemctl", "daemon-reload"))] if _UNIT_PATH in stale else []),
            Step(command=_LOAD),
            Step(command=("systemctl", "enable", "--quiet", "--now", UNIT)),
            Step(path=_LOADED, command=_LIST),
        ),
        undo_first=() if seen.is_on(UNIT) else _OFF,
        undo_last=(*_reload(loaded), _TIDY),
        differences=(
            *(difference(path, seen.files.get(path), new) for path, new in stale.items()),
            *_drift(seen.files.get(_LOADED), loaded, drifted),
        ),
    )


def removed(fleet: str, seen: Seen) -> Change | None:
    """Return what takes a fleet's rules away, the table with the last of them."""
    own = file_of(fleet)
    if own not in seen.files:
        return None
    left = [path for path in seen.files if path.startswith(f"{RULES}/fleet-") and path != own]
    loaded = seen.answer(_TABLE.name).output
    ours = (own,) if left else (own, CONFIGURATION, _LOADED, _UNIT_PATH)
    gone = tuple(path for path in ours if path in seen.files)
    remove = tuple(Step(path=path) for path in gone)
    if left:
        steps = (*remove, Step(command=_LOAD), Step(path=_LOADED, command=_LIST))
    else:
        off = Step(command=("systemctl", "disable", "--quiet", "--now", UNIT))
        reload = Step(command=("systemctl", "daemon-reload"))
        tidy = Step(command=("rmdir", "--parents", "--ignore-fail-on-non-empty", RULES))
        # The unit may have been off, with rules that somebody has loaded by hand.
        steps = (off, Step(command=("nft", _DELETE)), *remove, reload, tidy)
    return Change(
        saved=(*gone, _LOADED),
        steps=steps,
        undo_last=(*_reload(loaded), *(() if left else _ON)),
        differences=tuple(difference(path, seen.files[path], None) for path in gone),
    )


def notes(seen: Seen) -> Iterator[str]:
    """Yield what others filter: a packet must please every table, whatever ours says."""
    table = ""
    chain = ""
    for line in seen.answer(_CHAINS.name).output.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook input" in line and words[:2] == ["type", "filter"] and table != TABLE:
            policy = line.rpartition("policy ")[2].strip("; ") if "policy" in line else "accept"
            yield f"table {table}, chain {chain}, of others also filters (policy {policy})"


_TIDY: Final = f"rmdir --parents --ignore-fail-on-non-empty {RULES} 2>/dev/null"
# Nothing here waits for systemd: at boot, systemd waits for this.
_OFF: Final = (
    f"systemctl disable --quiet {UNIT}",
    f"systemctl stop --no-block {UNIT}",
)
_ON: Final = (
    "systemctl daemon-reload",
    f"systemctl enable --quiet {UNIT}",
    f"systemctl start --no-block {UNIT}",
)


def _reload(loaded: str) -> tuple[str, ...]:
    """Return the lines that load what was loaded, or nothing."""
    if not loaded:
        return (f"nft '{_DELETE}'",)
    # Quoted: the shell replaces nothing in it.
    return ("nft --file - <<'RULES'", f"{_DELETE}\n{loaded.rstrip()}", "RULES")


def _drift(recorded: str | None, loaded: str, drifted: bool) -> tuple[Difference, ...]:
    if recorded is None or not drifted:
        return ()
    return (difference(f"rules loaded in table {TABLE}", loaded, recorded),)
