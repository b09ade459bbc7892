from pathlib import Path

from runtime.spec.stage import PeerLink, StageConfig
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.links import Links

OLD = PeerLink(peer_id="QmA", stage=1, host="192.168.9.2", rpc_port=8003, private=True)
NEW = PeerLink(peer_id="QmNew", stage=1, host="10.0.0.7", rpc_port=8003)


def write(path: Path, *peers: PeerLink) -> None:
    """Replace the file as Ansible does: by another one of its name."""
    config = StageConfig(model=Path("/m"), stage=0, peers=peers)
    partial = path.with_suffix(".partial")
    partial.write_text(config.model_dump_json())
    partial.replace(path)


def test_a_server_that_runs_learns_of_another_one_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "server-1.json"
    write(path, OLD)
    links = Links((OLD,), path)
    assert links.to("QmNew") is None
    write(path, OLD, NEW)
    assert links.to("QmNew") == Endpoint("10.0.0.7", 8003)
    assert links.to("QmA") == Endpoint("192.168.9.2", 8003, private=True)
    write(path, NEW)
    assert links.to("QmA") is None


def test_a_file_that_is_damaged_or_gone_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "server-1.json"
    write(path, OLD)
    links = Links((OLD,), path)
    path.write_text("{")
    assert links.to("QmA") is not None
    path.unlink()
    assert links.to("QmA") is not None
    write(path, NEW)
    assert links.to("QmNew") is not None


def test_without_a_file_the_links_stay_as_they_are() -> None:
    assert Links((OLD,), None).to("QmA") == Endpoint("192.168.9.2", 8003, private=True)
