import json
import sys
from pathlib import Path

import pytest
import yaml

from cloud import __main__ as command
from cloud import play
from cloud.rules import Group, Rule, Source, State
from runtime.spec.inventory import fleet_of
from runtime.swarm.authority import Authority
from tests.support.clouds import Memory, cloud_hosts


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """A cloud in memory, in place of every cloud that is asked."""
    made = Memory(State(members={"gpu-0": frozenset()}))

    def driver(_cloud: object, _fleet: str, owner: str) -> Memory:
        made.owner = owner
        return made

    monkeypatch.setattr(command, "driver", driver)
    monkeypatch.setattr(play, "driver", driver)
    return made


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    hosts = cloud_hosts(authority=str(tmp_path / "authority"))
    site = next(iter(hosts.values()))["fleet"]
    site["clouds"] = {"aws": site["clouds"]["aws"]}
    for host in hosts.values():
        del host["fleet"]
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"vars": {"fleet": site}, "hosts": hosts}}))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Return with what the command ends."""
    monkeypatch.setattr(sys, "argv", ["./fleet cloud", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    return int(end.value.code or 0)


def test_plan_apply_drift_and_destroy_end_with_what_they_mean(
    cloud: Memory,
    inventory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = ("-i", str(inventory))
    assert run(monkeypatch, "plan", *site) == 2
    said = capsys.readouterr()
    assert "aws: + gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1" in said.out
    assert "no instance has the tag stagefleet-host=gpu-1" in said.err
    assert cloud.calls == 0
    assert not (inventory.parent / "authority").exists()

    assert run(monkeypatch, "apply", *site) == 0
    assert "aws: + gpu-1: tcp 8003 from host gpu-0" in capsys.readouterr().err
    assert run(monkeypatch, "plan", *site) == 0
    assert run(monkeypatch, "drift", *site) == 0
    assert "aws: no changes to make" in capsys.readouterr().out

    by_hand = Rule(
        protocol="tcp",
        first=80,
        last=80,
        source=Source(kind="network", name="192.0.2.9/32"),
        foreign=True,
    )
    group = cloud.state.groups["gpu-0"]
    rules = group.rules | {by_hand.key: by_hand}
    cloud.state = cloud.state.model_copy(
        update={
            "groups": cloud.state.groups
            | {"gpu-0": Group(name="gpu-0", owner=group.owner, rules=rules)}
        }
    )
    # Nothing to do for apply, but not what the inventory says either.
    assert run(monkeypatch, "plan", *site) == 0
    capsys.readouterr()
    assert run(monkeypatch, "drift", *site, "--json") == 2
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["changes"] == []
    assert found["notices"][0].startswith("rule of others in gpu-0: tcp 80 from 192.0.2.9/32")

    assert run(monkeypatch, "destroy", *site) == 0
    assert list(cloud.state.groups) == ["gpu-0"]
    assert run(monkeypatch, "destroy", *site, "--purge") == 0
    assert cloud.state.groups == {}


def test_errors_are_not_taken_for_pending_changes(
    cloud: Memory,
    inventory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cloud.calls == 0
    assert run(monkeypatch, "plan") == 1
    assert run(monkeypatch, "plna", "-i", str(inventory)) == 1
    assert run(monkeypatch, "plan", "-i", str(inventory), "--cloud", "oracle") == 1
    assert "there is no cloud 'oracle': aws" in capsys.readouterr().err
    assert run(monkeypatch, "plan", "-i", "nowhere") == 1


def test_the_module_tells_in_check_mode_what_it_would_do(cloud: Memory, inventory: Path) -> None:
    hosts = cloud_hosts(authority=str(inventory.parent / "authority"))
    arguments = {
        "fleet": fleet_of(hosts).model_dump(mode="json"),
        "cloud": "aws",
        "state": "present",
        "instances": "present",
        "allow_public": False,
        "purge": False,
    }
    told = play.run(arguments, check=True)
    assert told["changed"]
    assert cloud.calls == 0
    done = play.run(arguments, check=False)
    assert done["changes"] == told["changes"]
    assert done["diff"] == told["diff"]
    assert done["diff"]["before"] == ""
    assert "gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1\n" in done["diff"]["after"]
    assert not play.run(arguments, check=False)["changed"]
    assert play.run(arguments | {"state": "absent"}, check=False)["changed"]
    assert cloud.state.groups == {}


def test_an_authority_has_a_mark_of_its_own(tmp_path: Path) -> None:
    one, other = Authority(tmp_path / "a", "lab"), Authority(tmp_path / "b", "lab")
    assert one.mark() == ""
    one.create()
    other.create()
    assert len(one.mark()) == 16
    assert one.mark() != other.mark()
    assert one.mark() == Authority(tmp_path / "a", "lab").mark()
