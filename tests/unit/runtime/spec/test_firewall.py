"""What a host's firewall is told: every opening once, nothing else, and when it is left alone."""

import ipaddress
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.answers import Answer, Seen
from runtime.spec.firewall import FirewallPlan, decide, decide_removal
from runtime.spec.firewalls import firewalld, nftables, ufw
from runtime.spec.inventory import fleet_of
from runtime.spec.openings import Opening
from runtime.spec.plan import plans
from runtime.spec.undoing import FIREWALL, Change, joined
from tests.support.inventories import four_hosts

FLEET = "lab"
SYSTEMD = {
    "/run/systemd/system": "",
    "/proc/self/status": "Name:\tpython\nCapEff:\t000001ffffffffff\n",
}
DEFAULTS = 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\n'
UNIT = "Id={}\nActiveState=active\nUnitFileState=enabled\n"
OPENINGS = (
    Opening(protocol="tcp", port=22, source="192.0.2.0/24", purpose="ssh"),
    Opening(protocol="tcp", port=7001, source="198.51.100.7/32", purpose="rpc of stage 1"),
    Opening(protocol="tcp", port=7001, source="2001:db8::/64", purpose="rpc of stage 1"),
)

networks = st.one_of(
    st.builds(
        lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
        st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
        st.integers(0, 32),
    ),
    st.builds(
        lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
        st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address),
        st.integers(0, 128),
    ),
)
some_openings = st.lists(
    st.builds(
        Opening,
        protocol=st.sampled_from(["tcp", "udp"]),
        port=st.integers(1, 65535),
        source=networks,
        purpose=st.sampled_from(["ssh", "rpc of stage 1", "dht of stage 12"]),
    ),
    max_size=8,
    unique_by=lambda opening: (opening.protocol, opening.port, opening.source),
).map(tuple)


def seen(files: dict[str, str] | None = None, **answers: Answer) -> Seen:
    """Return what a freshly installed host has answered, but for these answers and files."""
    return Seen(answers={"nftables": Answer(code=0)} | answers, files=SYSTEMD | (files or {}))


def plan(tool: str = "auto", openings: tuple[Opening, ...] = OPENINGS) -> FirewallPlan:
    found = plans(fleet_of(four_hosts()), {})["gpu-0"].firewall
    return found.model_copy(update={"tool": tool, "openings": openings, "fleet": FLEET})


def ufw_seen(added: str = "", active: bool = True, files: dict[str, str] | None = None) -> Seen:
    status = "Status: active\nDefault: deny (incoming)" if active else "Status: inactive"
    return seen(
        {"/etc/default/ufw": DEFAULTS} | (files or {}),
        ufw=Answer(code=0, output=status),
        ufw_added=Answer(code=0, output=f"Added user rules:\n{added}"),
        systemd=Answer(code=0, output=UNIT.format("ufw.service")),
    )


def firewalld_seen(files: dict[str, str] | None = None, **changes: Answer) -> Seen:
    kept = Answer(code=0, output="public (active)\n  target: default\n  services: ssh\n")
    found = {
        "firewalld": Answer(code=0, output="running"),
        "firewalld_rules": Answer(code=112, error="INVALID_POLICY"),
        "firewalld_zones": kept,
        "firewalld_kept": kept,
        "systemd": Answer(code=0, output=UNIT.format("firewalld.service")),
    }
    return seen(files, **(found | changes))


def commands(change: Change | None) -> list[str]:
    assert change is not None
    return [" ".join(step.command) for step in change.steps if step.command]


def key(opening: Opening) -> tuple[str, int, str]:
    return (opening.protocol, opening.port, opening.source)


@given(some_openings)
def test_nftables_lets_in_every_opening_once_and_nothing_else(
    openings: tuple[Opening, ...],
) -> None:
    lines = nftables.rules(FLEET, openings).splitlines()[1:]
    rule = re.compile(r'(ip6?) saddr (\S+) (tcp|udp) dport (\d+) accept comment "lab: [a-z0-9 ]+"')
    found = [rule.fullmatch(line) for line in lines]
    assert all(found)
    assert [(one[3], int(one[4]), one[2]) for one in found if one] == [*map(key, openings)]
    assert all((":" in one[2]) == (one[1] == "ip6") for one in found if one)


@given(some_openings)
def test_firewalld_lets_in_every_opening_once_and_nobody_else_to_these_ports(
    openings: tuple[Opening, ...],
) -> None:
    policy = ElementTree.fromstring(firewalld.policy(FLEET, openings))
    assert policy.get("target") == "CONTINUE"
    let_in, closed = [], set()
    for rule in policy.iter("rule"):
        port, source = rule.find("port"), rule.find("source")
        assert port is not None
        place = (port.get("protocol"), int(port.get("port") or 0))
        if rule.find("accept") is None:
            assert rule.find("drop") is not None
            # After every rule that lets somebody in.
            assert rule.get("priority") == "1"
            closed.add(place)
        else:
            assert source is not None
            address = source.get("address") or ""
            assert rule.get("family") == ("ipv6" if ":" in address else "ipv4")
            let_in.append((*place, address))
    assert let_in == [*map(key, openings)]
    assert closed == {place[:2] for place in let_in}


@given(some_openings)
def test_ufw_is_told_every_opening_once_and_asks_for_nothing_after_it(
    openings: tuple[Opening, ...],
) -> None:
    change = ufw.installed(FLEET, openings, ufw_seen())
    if not openings:
        assert change is None
        return
    assert change is not None
    told = [step.command for step in change.steps]
    shape = re.compile(r"ufw allow from (\S+) to any port (\d+) proto (tcp|udp) comment")
    found = [shape.match(" ".join(command)) for command in told]
    let_in = [(one[3], int(one[2]), str(ipaddress.ip_network(one[1]))) for one in found if one]
    assert sorted(let_in) == sorted(map(key, openings))
    assert len(let_in) == len(told)
    # As ufw tells it afterwards.
    rules = [ufw.rule_of(FLEET, opening) for opening in openings]
    added = "".join(f"ufw {rule.text} comment '{rule.comment}'\n" for rule in rules)
    assert ufw.installed(FLEET, openings, ufw_seen(added)) is None
    gone = ufw.removed(FLEET, ufw_seen(added))
    assert len(commands(gone)) == len(openings)
    assert all(command.startswith("ufw delete allow from ") for command in commands(gone))


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft")
def test_nft_accepts_the_configuration(tmp_path: Path) -> None:
    if subprocess.run(["nft", "list", "tables"], capture_output=True, check=False).returncode != 0:
        pytest.skip("nft may not be used here")
    everybody = (
        Opening(protocol="tcp", port=7002, source="0.0.0.0/0", purpose="dht of stage 1"),
        Opening(protocol="udp", port=7002, source="::/0", purpose="dht of stage 1"),
    )
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.nft").write_text(nftables.rules(FLEET, OPENINGS + everybody))
    (tmp_path / "rules" / "b.nft").write_text(nftables.rules("other", OPENINGS))
    path = tmp_path / "nftables.conf"
    path.write_text(nftables.configuration(str(tmp_path / "rules")))
    subprocess.run(["nft", "--check", "--file", path], check=True)
    with (tmp_path / "rules" / "a.nft").open("a") as file:
        file.write("ip saddr nowhere accept\n")
    done = subprocess.run(["nft", "--check", "--file", path], capture_output=True, check=False)
    assert done.returncode != 0


def test_without_another_firewall_it_is_nftables() -> None:
    found = decide(plan(), seen())
    assert (found.problem, found.tool) == ("", "nftables")
    assert found.change is not None


def test_a_firewall_that_runs_is_the_one_that_is_told() -> None:
    assert decide(plan(), ufw_seen()).tool == "ufw"
    assert decide(plan(), ufw_seen(active=False)).tool == "nftables"
    assert decide(plan(), firewalld_seen()).tool == "firewalld"
    stopped = firewalld_seen(firewalld=Answer(code=firewalld.NOT_RUNNING, error="not running"))
    assert decide(plan(), stopped).tool == "nftables"


@pytest.mark.parametrize(
    ("tool", "host", "problem"),
    [
        ("nftables", ufw_seen(), "asks for nftables, but ufw runs there"),
        ("ufw", firewalld_seen(), "asks for ufw, but firewalld runs there"),
        ("ufw", seen(), "is to be ufw, which is not installed there"),
        ("firewalld", seen(), "is to be firewalld, which is not installed there"),
        ("auto", seen(nftables=Answer()), "is to be nftables, which is not installed there"),
        ("auto", Seen(answers={}, files={}), "runs no systemd"),
        (
            "auto",
            seen({"/proc/self/status": "CapEff:\t00000000a80425fb\n"}),
            "may not change its packet filter",
        ),
        (
            "auto",
            seen(ufw=Answer(code=1, error="ERROR: problem running iptables")),
            "ufw is installed there but does not work.*ufw status verbose says: ERROR: problem",
        ),
        ("auto", seen(nftables=Answer(code=1, error="no netlink")), "nftables is installed there"),
        ("nftables", firewalld_seen(firewalld=Answer(code=1, error="x")), "firewalld is installed"),
        (
            "auto",
            ufw_seen(files={"/etc/default/ufw": "IPV6=no\n"}),
            "from 2001:db8::/64, and its ufw leaves IPv6 out",
        ),
        (
            "auto",
            firewalld_seen(firewalld_kept=Answer(code=0, output="public\n  services: ssh http\n")),
            "changes that are not permanent",
        ),
    ],
)
def test_what_cannot_be_done_is_named(tool: str, host: Seen, problem: str) -> None:
    found = decide(plan(tool), host)
    assert found.change is None
    assert re.search(problem, found.problem)
    assert found.problem.startswith("host gpu-0: ")
    assert "\n  -> " in found.problem


def test_two_that_run_at_once_are_named() -> None:
    both = ufw_seen()
    both = both.model_copy(update={"answers": both.answers | firewalld_seen().answers})
    assert "both ufw and firewalld run there" in decide(plan(), both).problem


def installed_nftables() -> Seen:
    """Return a host on which what `decide` wants has been done."""
    change = decide(plan("nftables"), seen(nftables=Answer(code=0))).change
    assert change is not None
    files = {step.path: step.text or "table inet stagefleet" for step in change.steps if step.path}
    return seen(
        files,
        nftables=Answer(code=0),
        nftables_table=Answer(code=0, output="table inet stagefleet"),
        systemd=Answer(code=0, output=UNIT.format(nftables.UNIT)),
    )


def test_what_is_done_is_not_done_again() -> None:
    assert decide(plan("nftables"), installed_nftables()).change is None
    path, policy = firewalld.file_of(FLEET), firewalld.policy(FLEET, OPENINGS)
    shown = "\n".join(sorted(firewalld._rich_rules(OPENINGS)))
    done = firewalld_seen({path: policy}, firewalld_rules=Answer(code=0, output=shown))
    assert decide(plan("firewalld"), done).change is None


def test_rules_that_somebody_has_changed_since_are_loaded_again() -> None:
    drifted = installed_nftables()
    table = Answer(code=0, output="table inet stagefleet with more")
    drifted = drifted.model_copy(update={"answers": drifted.answers | {"nftables_table": table}})
    change = decide(plan("nftables"), drifted).change
    assert f"nft --file {nftables.CONFIGURATION}" in commands(change)
    assert change is not None
    # What the undoing loads is what was there, not what should have been.
    assert "table inet stagefleet with more" in "\n".join(change.undo_last)


def test_another_fleets_rules_stay() -> None:
    host = installed_nftables()
    other = {nftables.file_of("other"): "# fleet other\n"}
    both = host.model_copy(update={"files": host.files | other})
    change = decide_removal(plan(), both).change
    assert change is not None
    assert [step.path for step in change.steps if step.path and step.text is None][:1] == [
        nftables.file_of(FLEET)
    ]
    assert not any("disable" in command for command in commands(change))
    alone = decide_removal(plan(), host).change
    assert f"systemctl disable --quiet --now {nftables.UNIT}" in commands(alone)
    assert decide_removal(plan(), seen()).change is None


def test_rules_of_others_are_neither_taken_over_nor_removed() -> None:
    mine = "ufw allow 80/tcp\nufw allow from 192.0.2.0/24 to any port 22 proto tcp comment 'bob'\n"
    host = ufw_seen(mine)
    change = decide(plan(), host).change
    # The same rule is there already, and stays bob's.
    assert not any(" port 22 " in command for command in commands(change))
    assert decide_removal(plan(), host).change is None
    assert decide(plan(), host).notes == (
        "a rule of others lets in: ufw allow 80/tcp",
        "a rule of others lets in: ufw allow from 192.0.2.0/24 to any port 22 proto tcp",
    )


def test_what_was_switched_on_for_a_fleet_is_switched_off_with_it() -> None:
    off = ufw_seen(active=False, files={"/etc/default/ufw": DEFAULTS.replace("DROP", "ACCEPT")})
    change = decide(plan("ufw"), off).change
    told = commands(change)
    # The way in comes before the door is closed.
    assert told.index("ufw --force enable") > max(
        number for number, command in enumerate(told) if command.startswith("ufw allow")
    )
    assert "ufw default deny incoming" in told
    assert change is not None
    marker = next(step for step in change.steps if step.path == "/etc/stagefleet-firewall/ufw")
    on = ufw_seen(files={"/etc/stagefleet-firewall/ufw": marker.text or ""})
    assert {"ufw --force disable", "ufw default allow incoming"} <= set(
        commands(decide_removal(plan(), on).change)
    )
    # Another tool may take its place, because nobody else wants it.
    switched = decide(plan("nftables"), on)
    assert switched.problem == ""
    told = commands(switched.change)
    assert told.index(f"nft --file {nftables.CONFIGURATION}") < told.index("ufw --force disable")


def test_nftables_of_others_are_told() -> None:
    chains = """table ip filter {
\tchain INPUT {
\t\ttype filter hook input priority filter; policy drop;
\t}
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
table inet stagefleet {
\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t}
}
"""
    found = decide(
        plan(), seen(nftables=Answer(code=0), nftables_chains=Answer(code=0, output=chains))
    )
    assert found.notes == ("table ip filter, chain INPUT, of others also filters (policy drop)",)


def test_a_change_survives_the_way_to_the_host() -> None:
    found = decide(plan(), seen())
    assert type(found).model_validate_json(json.dumps(found.model_dump(mode="json"))) == found


def test_an_undoing_puts_everything_back(tmp_path: Path) -> None:
    kept, made = tmp_path / "etc" / "kept", tmp_path / "etc" / "made"
    for path, text in ((kept, "new"), (made, "new")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    change = joined(
        [Change(saved=(str(kept), str(made)), undo_first=("false", f"touch {tmp_path}/first"))]
    )
    assert change is not None
    # In a place of its own, with a systemctl that does nothing.
    state = tmp_path / "state"
    (state / "saved").mkdir(parents=True)
    Path(FIREWALL.saved_as(0).replace(FIREWALL.state, str(state))).write_text("old")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").symlink_to("/bin/true")
    script = change.arming(FIREWALL)[f"{FIREWALL.state}/undo"].replace(FIREWALL.state, str(state))
    script = script.replace("/run/", f"{tmp_path}/").replace("/etc/systemd", str(tmp_path))

    def undo() -> None:
        environment = {"PATH": f"{programs}:/usr/bin:/bin"}
        subprocess.run(["/bin/sh", "-c", script], env=environment, check=True, timeout=20)

    undo()
    # It was confirmed, or is undone already: nothing is armed.
    assert kept.read_text() == "new"
    Path(FIREWALL.armed.replace(FIREWALL.state, str(state))).touch()
    undo()
    assert kept.read_text() == "old"
    assert not made.exists()
    assert (tmp_path / "first").exists()
    assert not state.exists()
