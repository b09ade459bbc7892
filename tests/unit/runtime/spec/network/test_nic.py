"""What cards say of themselves, as ethtool prints it, and what is made of a wish."""

from runtime.spec.answers import Answer, Seen
from runtime.spec.network.declared import Nic
from runtime.spec.network.nic import Finding, Setting, settings, speed_of
from tests.support.links import FEATURES, RINGS

CHANNELS = """\
Channel parameters for data0:
Pre-set maximums:
RX:\t\tn/a
TX:\t\tn/a
Other:\t\t1
Combined:\t63
Current hardware settings:
RX:\t\tn/a
TX:\t\tn/a
Other:\t\t1
Combined:\t4
"""
APART = """\
Channel parameters for data0:
Pre-set maximums:
RX:\t\t8
TX:\t\t8
Other:\t\tn/a
Combined:\tn/a
Current hardware settings:
RX:\t\t1
TX:\t\t1
Other:\t\tn/a
Combined:\tn/a
"""
COALESCING = """\
Coalesce parameters for data0:
Adaptive RX: off  TX: n/a
stats-block-usecs:\tn/a
sample-interval:\tn/a

rx-usecs:\t1
rx-frames:\tn/a

tx-usecs:\t0
"""


def seen(**answers: str | Answer) -> Seen:
    queries = {"rings": "-g", "channels": "-l", "coalescing": "-c", "features": "-k"}
    given = {
        f"ethtool {queries[key]} data0": (
            answer if isinstance(answer, Answer) else Answer(code=0, output=answer)
        )
        for key, answer in answers.items()
    }
    return Seen(answers=given, files={})


def asked(
    wish: Nic, forwards: bool = False, **answers: str | Answer
) -> tuple[dict[str, Setting], dict[str, Finding]]:
    found, findings = settings("data0", wish, seen(**answers), forwards)
    return {one.key: one for one in found}, {each.what: each for each in findings}


def test_more_than_a_card_has_is_capped_and_said_by_name() -> None:
    found, findings = asked(Nic(rx_ring=8192, tx_ring="max"), rings=RINGS)
    assert (found["rx_ring"].value, found["tx_ring"].value) == ("4096", "4096")
    assert found["rx_ring"].now == "512"
    assert found["rx_ring"].told("4096") == ("ethtool", "-G", "data0", "rx", "4096")
    assert str(findings["data0 rx_ring"]) == (
        "data0 rx_ring: 8192 is asked for, 4096 is set: the card has 4096 at most"
    )
    # To ask for all there is is no wish that is cut down.
    assert "data0 tx_ring" not in findings


def test_queues_are_pairs_or_of_both_kinds() -> None:
    pairs, _ = asked(Nic(queues=8), channels=CHANNELS)
    assert pairs["queues"].told("8") == ("ethtool", "-L", "data0", "combined", "8")
    apart, _ = asked(Nic(queues="max"), channels=APART)
    assert apart["queues"].told(apart["queues"].value) == (
        *("ethtool", "-L", "data0", "rx", "8", "tx", "8"),
    )


def test_coalescing_is_told_number_by_number() -> None:
    found, findings = asked(Nic(rx_usecs=50, tx_usecs=20, adaptive_rx=True), coalescing=COALESCING)
    assert list(found) == ["adaptive_rx", "rx_usecs", "tx_usecs"]
    assert (found["rx_usecs"].now, found["rx_usecs"].value) == ("1", "50")
    assert (found["adaptive_rx"].now, found["adaptive_rx"].value) == ("off", "on")
    assert findings == {}


def test_what_a_driver_fixes_or_lacks_is_said_by_name() -> None:
    refused = Answer(code=92, error="netlink error: Operation not supported")
    found, findings = asked(
        Nic(rx_ring=256, queues=2, gro=True, lro=True, tso=True),
        rings=refused,
        channels=CHANNELS.replace("63", "n/a"),
        features=FEATURES,
    )
    assert set(found) == {"gro", "tso"}
    assert "Operation not supported" in findings["data0 rx_ring"].why
    assert findings["data0 queues"].why == "the card's driver does not have it"
    assert "fixes it: off [fixed]" in findings["data0 lro"].why


def test_a_host_that_forwards_never_joins_packets_on_the_card() -> None:
    loose = FEATURES.replace("off [fixed]", "off")
    found, _ = asked(Nic(lro=True), features=loose)
    assert found["lro"].value == "on"
    found, findings = asked(Nic(lro=True), forwards=True, features=loose)
    assert found == {}
    assert "forwards packets" in findings["data0 lro"].why
    assert asked(Nic(lro=False), forwards=True, features=loose)[0]["lro"].value == "off"


def test_without_ethtool_every_wish_is_named() -> None:
    found, findings = asked(Nic(rx_ring=1, gso=False))
    assert found == {}
    assert set(findings) == {"data0 rx_ring", "data0 gso"}
    assert "apt install ethtool" in findings["data0 gso"].why


def test_speed_is_what_the_card_has_agreed_on() -> None:
    def of(text: str) -> float | None:
        answers = {"ethtool data0": Answer(code=0, output=text)}
        return speed_of("data0", Seen(answers=answers, files={}))

    assert of("Settings for data0:\n\tSpeed: 10000Mb/s\n") == 10
    assert of("\tSpeed: 2500Mb/s\n") == 2.5
    assert of("\tSpeed: Unknown!\n") is None
