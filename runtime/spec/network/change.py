"""What to do on a host so that its data links are what its plan says, and how to undo it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from runtime.spec.answers import Seen
from runtime.spec.network import files, looked
from runtime.spec.network.files import Applied, Manager
from runtime.spec.network.looked import Interface
from runtime.spec.network.nic import Setting
from runtime.spec.network.plan import LinkPlan, NetworkPlan
from runtime.spec.network.record import Before, LinkState, renewed, restoring
from runtime.spec.undoing import Change, Difference, Step, difference

_ENABLE: Final = (
    ("systemctl", "daemon-reload"),
    ("systemctl", "enable", "--quiet", files.UNIT),
    ("systemctl", "restart", files.UNIT),
)
# In a unit that undoes while the host boots, waiting for another unit would never end.
_BACK: Final = (
    "systemctl daemon-reload",
    f"[ -e {files.UNIT_PATH} ] && systemctl enable --quiet {files.UNIT}",
    f"[ -e {files.UNIT_PATH} ] && systemctl restart --no-block {files.UNIT}",
)
_OFF: Final = (
    # As `systemctl disable` would, of a unit that is there.
    f"[ -e {files.UNIT_PATH} ] || rm -f {files.WANTED_PATH}",
    f"[ -e {files.UNIT_PATH} ] || systemctl stop --no-block {files.UNIT}",
)


class Linked(NamedTuple):
    """A link of the plan, and what the host has in its place."""

    plan: LinkPlan
    now: Interface
    manager: Manager
    networkd_path: str
    settings: tuple[Setting, ...]


def change_of(
    plan: NetworkPlan,
    links: list[Linked],
    settings: dict[str, str],
    before: Before | None,
    seen: Seen,
) -> Change | None:
    """Return what makes a host what its plan says, or None if it is that already.

    Args:
        plan: of the host.
        links: those of the plan, and what is there in their place.
        settings: the sysctls that it should have.
        before: what an earlier run has recorded.
        seen: what the host has answered.
    """
    wanted = _files(links, settings)
    now = _state(plan.fleet, links, settings, wanted, seen)
    record = _joined(now, before)
    wanted[files.BEFORE] = record.text
    written = {path: text for path, text in wanted.items() if seen.files.get(path) != text}
    stale = tuple(path for path in (before.files if before else ()) if path not in wanted)
    gone = (*_gone(record, before), *(_tidied(stale) if stale else ()))
    drifted = [each for each in links if _drift(each, seen)]
    there = looked.sysctls(seen)
    refused = files.refused_of(seen.files.get(files.REFUSED, ""))
    unset = {
        key: value
        for key, value in settings.items()
        if there[key] != value and (key, value) not in refused
    }
    if not (written or stale or drifted or unset) and seen.is_on(files.UNIT):
        return None
    saved = (*wanted, *stale, files.REFUSED)
    return Change(
        saved=saved,
        steps=(
            *(Step(path=path, text=text) for path, text in written.items()),
            *(Step(path=path) for path in stale),
            *(Step(command=each) for each in renewed(_to_renew(links, written, stale, drifted))),
            *((Step(command=("sh", "-c", "\n".join((*gone, "true")))),) if gone else ()),
            *(
                Step(command=("systemctl", "reload", files.NETWORKMANAGER))
                for _ in {files.MANAGER_CONF} & {*written, *stale}
            ),
            *(Step(command=command) for command in _ENABLE),
        ),
        undo_last=(
            *_OFF,
            *restoring(now, {each.plan.interface: each.plan.address for each in links}),
            *(_BACK if files.UNIT_PATH in seen.files else ("systemctl daemon-reload",)),
            *_tidied(saved),
        ),
        differences=(
            *(difference(path, seen.files.get(path), text) for path, text in written.items()),
            *(difference(path, seen.files.get(path), None) for path in stale),
            *(
                Difference(
                    what=each.plan.interface, before=_now_words(each), after=_wanted_words(each)
                )
                for each in drifted
            ),
            *(
                Difference(what=key, before=f"{there[key]}\n", after=f"{value}\n")
                for key, value in unset.items()
            ),
        ),
    )


def _to_renew(
    links: list[Linked], written: Mapping[str, str], stale: tuple[str, ...], drifted: list[Linked]
) -> tuple[str, ...]:
    """Return the links about which networkd has to be told something."""
    touched = any(path.startswith(files.NETWORKD_DIRECTORY) for path in stale)
    return tuple(
        each.plan.interface
        for each in links
        if each.networkd_path and (touched or each.networkd_path in written or each in drifted)
    )


def _files(links: list[Linked], settings: dict[str, str]) -> dict[str, str]:
    """Return every file of ours, but for the record of what was before."""
    found = {
        each.networkd_path: files.networkd_text(
            each.networkd_path, each.plan.interface, each.plan.address, each.plan.mtu
        )
        for each in links
        if each.networkd_path
    }
    left_alone = [each.plan.interface for each in links if each.manager is Manager.NETWORKMANAGER]
    if left_alone:
        found[files.MANAGER_CONF] = files.manager_text(left_alone)
    if settings:
        found[files.SYSCTLS] = files.sysctl_text(settings)
    found[files.APPLY] = files.apply_text(
        Applied(
            each.plan.interface,
            each.plan.address,
            each.plan.mtu,
            each.manager,
            tuple((one.key, one.value, *one.told(one.value)) for one in each.settings),
        )
        for each in links
    )
    found[files.UNIT_PATH] = files.UNIT_TEXT
    return found


def _state(
    fleet: str,
    links: list[Linked],
    settings: dict[str, str],
    wanted: Mapping[str, str],
    seen: Seen,
) -> Before:
    """Return how everything that is to be changed is now."""
    there = looked.sysctls(seen)
    return Before(
        fleet=fleet,
        files=tuple(sorted(wanted)),
        links={
            each.plan.interface: LinkState(
                mtu=each.now.mtu,
                up=each.now.up,
                addresses=each.now.addresses,
                told={one.key: one.told(one.now) for one in each.settings},
            )
            for each in links
        },
        networkd=tuple(each.plan.interface for each in links if each.networkd_path),
        manager=any(each.manager is Manager.NETWORKMANAGER for each in links),
        sysctls={key: there[key] for key in settings},
    )


def _joined(now: Before, before: Before | None) -> Before:
    """Return the record to keep: of what was changed earlier, how it was before that."""
    if before is None:
        return now
    links = {}
    for name, state in now.links.items():
        old = before.links.get(name)
        told = {key: (old.told if old else {}).get(key, new) for key, new in state.told.items()}
        links[name] = (old or state).model_copy(update={"told": told})
    return now.model_copy(
        update={"links": links, "sysctls": {**now.sysctls, **_of(before.sysctls, now.sysctls)}}
    )


def _of(values: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key in keys}


def _gone(record: Before, before: Before | None) -> tuple[str, ...]:
    """Return the lines that put back what is no longer asked for."""
    if before is None:
        return ()
    links = {name: state for name, state in before.links.items() if name not in record.links}
    lines = list(
        restoring(
            before.model_copy(
                update={
                    "links": links,
                    "networkd": tuple(name for name in before.networkd if name in links),
                    "manager": False,
                    "sysctls": {
                        key: value
                        for key, value in before.sysctls.items()
                        if key not in record.sysctls
                    },
                }
            ),
            {},
        )
    )
    for name, state in before.links.items():
        kept = record.links.get(name)
        if kept is not None:
            lines += [
                " ".join(command) for key, command in state.told.items() if key not in kept.told
            ]
    return tuple(lines)


def _drift(link: Linked, seen: Seen) -> bool:
    """Return whether an interface is not what it should be."""
    refused = files.refused_of(seen.files.get(files.REFUSED, ""))
    return (
        (link.plan.mtu is not None and link.now.mtu != link.plan.mtu)
        or link.plan.address not in link.now.addresses
        or not link.now.up
        or any(
            one.now != one.value and (f"{link.plan.interface} {one.key}", one.value) not in refused
            for one in link.settings
        )
    )


def _now_words(link: Linked) -> str:
    told = {one.key: one.now for one in link.settings}
    return _lines(link.now.mtu, link.now.up, link.now.addresses, told)


def _wanted_words(link: Linked) -> str:
    told = {one.key: one.value for one in link.settings}
    addresses = dict.fromkeys((*link.now.addresses, link.plan.address))
    return _lines(link.plan.mtu or link.now.mtu, True, addresses, told)


def _words(state: LinkState) -> str:
    told = {key: " ".join(command) for key, command in state.told.items()}
    return _lines(state.mtu, state.up, state.addresses, told)


def _lines(mtu: int, up: bool, addresses: Iterable[str], told: Mapping[str, str]) -> str:
    lines = [f"mtu {mtu}", "up" if up else "down", *(f"address {each}" for each in addresses)]
    return "\n".join([*lines, *(f"{key} {value}" for key, value in told.items())]) + "\n"


def removal(before: Before, seen: Seen) -> Change:
    """Return what puts a host's links back to what they were before the fleet came."""
    lines = "\n".join((*restoring(before, _made(seen, before)), *_tidied(before.files)))
    here = (*before.files, files.BEFORE, files.REFUSED)
    return Change(
        saved=here,
        steps=(
            Step(command=("systemctl", "disable", "--quiet", "--now", files.UNIT)),
            *(Step(path=path) for path in here),
            Step(command=("systemctl", "daemon-reload")),
            # What a card or an interface no longer takes must not keep the rest from going back.
            Step(command=("sh", "-c", f"{lines}\ntrue")),
        ),
        undo_last=(*(" ".join(each) for each in renewed(before.networkd)), *_BACK),
        differences=tuple(
            Difference(what=name, before="kept for the fleet\n", after=_words(state))
            for name, state in before.links.items()
        ),
    )


def _tidied(paths: Iterable[str]) -> Iterator[str]:
    """Yield the lines that remove directories of ours, if nobody has put anything else there."""
    drop_ins = {path.rpartition("/")[0] for path in paths if ".network.d/" in path}
    for directory in sorted({files.DIRECTORY, *drop_ins}):
        yield f"rmdir {directory} 2>/dev/null"


def _made(seen: Seen, before: Before) -> dict[str, str]:
    """Return the address that the fleet has given to each interface: its unit's script says it."""
    found = {}
    for line in seen.files.get(files.APPLY, "").splitlines():
        words = line.split()
        if words[:2] == ["must", "settled"] and words[2] in before.links:
            found[words[2]] = words[3]
    return found
