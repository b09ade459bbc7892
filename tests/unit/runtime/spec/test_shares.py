"""What shares are refused, and what they make of hosts."""

import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of
from runtime.spec.openings import openings
from runtime.spec.plan import plans
from runtime.spec.share_files import unit_name
from runtime.spec.share_plan import share_plans
from tests.support.inventories import four_hosts

MODELS: dict[str, Any] = {
    "name": "models",
    "host": "gpu-0",
    "path": "/srv/models",
    "readers": ["gpu-1", "gpu-2"],
}
WORK: dict[str, Any] = {
    "name": "work",
    "host": "gpu-0",
    "path": "/srv/work",
    "kind": "projects",
    "protocol": "smb",
    "users": ["alice"],
    "readers": ["gpu-1"],
}


def fleet(*shares: dict[str, Any], private: bool = True, **site: Any) -> Fleet:
    network = {"name": "data", "cidr": "10.78.0.0/24", "private": private}
    hosts = four_hosts(networks=[network], shares=list(shares), **site)
    for number, host in enumerate(hosts.values()):
        host["fleet_host"]["addresses"] = [f"10.78.0.{number + 10}"]
    return fleet_of(hosts)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([{**MODELS, "path": "/data/models"}], "path /data/models is outside of /srv, the root"),
        ([{**MODELS, "path": "/srv"}], "path /srv is outside of /srv"),
        ([{**MODELS, "path": "/srv/x/../../etc"}], "leads elsewhere than it says: write /etc"),
        ([{**MODELS, "path": "/srv/my models"}], "should match pattern"),
        ([MODELS, {**MODELS, "name": "more"}], "shares models and more overlap: /srv/models and"),
        (
            [MODELS, {**MODELS, "name": "one", "path": "/srv/models/one", "mount": "/one"}],
            "shares models and one overlap: /srv/models and /srv/models/one of gpu-0",
        ),
        ([MODELS, {**MODELS, "host": "gpu-3", "path": "/srv/m"}], "2 shares are called 'models'"),
        (
            [MODELS, {**MODELS, "name": "two", "host": "gpu-3", "mount": "/srv/models/two"}],
            "host gpu-1: /srv/models (mount of models) and /srv/models/two (mount of two) overlap",
        ),
        (
            [MODELS, {**MODELS, "name": "back", "host": "gpu-1", "readers": ["gpu-3"]}],
            "host gpu-1: /srv/models (mount of models) and /srv/models (shared by it) overlap",
        ),
        ([{**MODELS, "mount": "/etc/models"}], "mount /etc/models would hide what a host needs"),
        ([{**MODELS, "mount": "/var"}], "mount /var would hide what a host needs"),
        ([{**MODELS, "path": "/srv/stagefleet/lab"}], "overlaps /srv/stagefleet, below which"),
        ([{**MODELS, "host": "gpu-9"}], "'gpu-9' is no host of the fleet; did you mean 'gpu-"),
        ([{**MODELS, "readers": ["gpu-0"]}], "gpu-0 has the directory itself"),
        ([{**MODELS, "readers": []}], "nobody may read it: add hosts to readers"),
        ([{**MODELS, "users": ["alice"]}], "nfs knows hosts and no users"),
        ([{**WORK, "users": []}], "smb lets in nobody without a name: add users"),
        ([{**WORK, "fs_cache": True}], "fs_cache is for nfs"),
        ([{**WORK, "users": ["al ice"]}], "should match pattern"),
        ([{**MODELS, "knid": "models"}], "did you mean 'kind'?"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        fleet(*shares)


def test_people_get_in_over_smb_only_and_root_is_needed() -> None:
    row = {"service": "nfs", "networks": ["192.0.2.0/24"]}
    with pytest.raises(SpecError, match="access to nfs: it knows hosts and no people"):
        fleet(MODELS, access=[row])
    with pytest.raises(SpecError, match="shares need root"):
        fleet(MODELS, install={"scope": "user"})
    people = fleet({**WORK, "readers": []}, access=[{**row, "service": "smb"}])
    (text,) = [file.text for file in store(people).files if file.path.endswith("smb.conf")]
    assert "hosts allow = 192.0.2.0/24\nhosts deny = ALL\n" in text


def test_a_port_that_a_share_takes_is_taken() -> None:
    hosts = four_hosts(shares=[WORK])
    hosts["gpu-0"]["fleet_host"]["ports"] = {"smb": 8008}
    with pytest.raises(SpecError, match="host gpu-0: port 8008 is taken by smb and by stage 0 dht"):
        fleet_of(hosts)


def test_nfs_stays_on_networks_that_are_nobody_elses() -> None:
    with pytest.raises(SpecError, match="gpu-1 reaches gpu-0 over data, and NFS is not encrypted"):
        share_plans(fleet(MODELS, private=False))
    assert share_plans(fleet(WORK, private=False))["gpu-1"].mounts.places == ("/srv/work",)


def store(fleet: Fleet, host: str = "gpu-0") -> Any:
    return share_plans(fleet)[host].store


def test_flows_lead_to_declared_readers_only() -> None:
    described = fleet(MODELS, WORK)
    found = {flow.service: flow for flow in flows(described) if flow.owner == "shares"}
    assert found["nfs"].hosts == ("gpu-1", "gpu-2")
    assert found["smb"].hosts == ("gpu-1",)
    assert {flow.host for flow in found.values()} == {"gpu-0"}
    opened = {(row.port, row.source) for row in openings(described)["gpu-0"] if row.port < 2050}
    assert opened == {
        (22, "192.0.2.0/24"),
        (445, "10.78.0.11/32"),
        (2049, "10.78.0.11/32"),
        (2049, "10.78.0.12/32"),
    }
    assert not [flow for flow in flows(fleet()) if flow.owner == "shares"]


_WORDS = st.text(alphabet="abc-_.9", min_size=1, max_size=5)
_SHARES = st.lists(
    st.builds(
        lambda name, path, kind, readers: {
            "name": f"s{name}",
            "host": "gpu-0",
            "path": f"/srv/d{name}/{path}".rstrip("."),
            "kind": kind,
            "readers": sorted(readers),
        },
        st.integers(0, 99),
        _WORDS.filter(lambda word: word.strip(".") != ""),
        st.sampled_from(["models", "projects", "cache"]),
        st.sets(st.sampled_from(["gpu-1", "gpu-2", "gpu-3"]), min_size=1),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda share: share["name"],
)


@given(_SHARES)
def test_exports_let_in_readers_and_give_nobody_root(shares: list[dict[str, Any]]) -> None:
    described = fleet(*shares)
    (exports,) = [f.text for f in store(described).files if f.path.endswith(".exports")]
    lines = [line for line in exports.splitlines() if not line.startswith("#")]
    assert len(lines) == len(shares)
    numbers = set()
    for share, line in zip(shares, lines, strict=True):
        place, *clients = line.split(" ")
        assert place == f"/srv/stagefleet/lab/{share['name']}"
        assert [client.partition("(")[0] for client in clients] == [
            f"10.78.0.{10 + int(reader[-1])}" for reader in share["readers"]
        ]
        for client in clients:
            options = client.partition("(")[2].rstrip(")").split(",")
            assert ("rw" in options) is (share["kind"] != "models")
            assert {"all_squash", "root_squash", "secure", "anonuid=@uid@"} <= set(options)
            assert not {"no_root_squash", "no_all_squash", "insecure", "async"} & set(options)
            numbers.add(next(option for option in options if option.startswith("fsid=")))
    assert "*" not in exports
    assert len(numbers) == len(shares)


def test_mounts_are_hardened_and_wait_for_nobody_at_boot() -> None:
    plan = share_plans(fleet({**MODELS, "fs_cache": True}, WORK))["gpu-1"].mounts
    files = {file.path.rpartition("/")[2]: file.text for file in plan.files}
    nfs, smb = files["srv-models.mount"], files["srv-work.mount"]
    assert "What=10.78.0.10:/srv/stagefleet/lab/models\n" in nfs
    for text in (nfs, smb):
        assert {"nosuid", "nodev", "noatime", "hard"} <= options(text)
        # Nobody wants the mount itself: the first look mounts it.
        assert "[Install]" not in text
    assert {"ro", "fsc", "vers=4.2", "nconnect=4", "rsize=1048576"} <= options(nfs)
    assert {"rw", "seal", "sign", "vers=3.1.1"} <= options(smb)
    assert "password" not in smb.replace("credentials=/etc/stagefleet-shares/", "")
    assert plan.units == ("srv-models.automount", "srv-work.automount")
    assert plan.packages == ("nfs-common", "cifs-utils")


def options(unit: str) -> set[str]:
    return set(re.findall(r"^Options=(.*)$", unit, re.MULTILINE)[0].split(","))


def test_what_is_shared_read_only_is_mounted_read_only_too() -> None:
    files = {f.path: f.text for f in store(fleet(MODELS, WORK)).files}
    units = "/etc/systemd/system/srv-stagefleet-lab-"
    assert {"bind", "ro"} <= options(files[f"{units}models.mount"])
    assert "ro" not in options(files[f"{units}work.mount"])


def test_versions_before_4_2_are_switched_off() -> None:
    (text,) = [f.text for f in store(fleet(MODELS)).files if f.path.startswith("/etc/nfs.conf.d/")]
    assert "vers3=n\nvers4=y\nvers4.0=n\nvers4.1=n\nvers4.2=y\n" in text
    assert "port=" not in text


def test_servers_that_read_a_share_are_told_and_others_are_not() -> None:
    share = {**MODELS, "path": "/srv/models", "readers": ["gpu-1"]}
    model = {"path": "/srv/models/m", "total_blocks": 32, "splits": [8, 16, 24]}
    found = plans(fleet(share, model=model), {})
    told = {host: plan.stages[0].config_text for host, plan in found.items()}
    assert '"model_is_shared": true' in told["gpu-1"]
    assert '"model_cache": "/var/cache/stagefleet/lab/models"' in told["gpu-1"]
    assert "model_is_shared" not in told["gpu-0"] + told["gpu-2"]
    uncached = plans(fleet(share, model=model | {"local_cache": False}), {})
    assert "model_cache" not in uncached["gpu-1"].stages[0].config_text


@given(st.lists(_WORDS.filter(lambda word: set(word) - {"."}), min_size=1, max_size=3))
def test_units_are_called_as_systemd_calls_them(parts: list[str]) -> None:
    found = unit_name("/" + "/".join(parts), "mount")
    assert re.fullmatch(r"(\\x[0-9a-f]{2}|[a-z0-9:_.-])+[.]mount", found)
    assert not found.startswith(".")


def test_systemd_agrees_on_names() -> None:
    paths = ["/srv/my-models", "/srv/a_b/c.d", "/.hidden/x", "/srv/a@b+c=d"]
    said = subprocess.run(
        ["systemd-escape", "--path", "--suffix=mount", *paths],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout.split()
    assert [unit_name(path, "mount") for path in paths] == said
