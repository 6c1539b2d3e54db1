"""tests/malformed.tsv over the wire: each entry from a port of its own, all sent before any is awaited."""

import csv
import select
import time
from pathlib import Path

import pytest

import wire
from gateway import HELLO, LISTENERS, SMALL

TABLE = Path(__file__).resolve().parents[1] / "malformed.tsv"


def entries():
    with open(TABLE, newline="") as table:
        rows = list(csv.DictReader((line for line in table if not line.startswith("#")),
                                   delimiter="\t"))
    assert len(rows) >= 60 and len({row["name"] for row in rows}) == len(rows)
    return rows


def seen(data, answer):
    """An answer in the words of the table, checked against what must be echoed."""
    if answer is None:
        return "silence"
    message = wire.decode(answer)
    mid = int.from_bytes(data[2:4], "big")
    if message.type == wire.RST:
        assert message == wire.Message(wire.RST, wire.EMPTY, mid)
        return "rst"
    if message.type == wire.ACK:
        assert message.mid == mid
    length, at = wire.extended(data[0] & 15, data, 4)
    assert message.token == data[at:at + length], "the token comes back as it was"
    return f"{message.code_text}/{('con', 'non', 'ack')[message.type]}"


@pytest.mark.core
@pytest.mark.parametrize("transport, family", [("tap", 4), ("tap", 6), ("af_packet", 4)])
def test_malformed_datagrams(rig, transport, family):
    one = rig(SMALL.replace("limits: {", "limits: {token: 64, ") + LISTENERS + HELLO, transport)
    rows, sockets = entries(), {}
    # The neighbours know each other first, so that no datagram waits for an address.
    assert one.hosts.exchange(wire.request(wire.GET, "/hello"), family).code_text == "2.05"
    for row in rows:
        sock = one.hosts.socket(family)
        sock.send(bytes.fromhex(row["hex"]))
        sockets[sock] = row
    answers = gather(sockets, sum(row["reaction"] != "silence" for row in rows))
    wrong = []
    for sock, row in sockets.items():
        got = [seen(bytes.fromhex(row["hex"]), a) for a in answers.get(sock, [None])]
        if got != [row["reaction"]]:
            wrong.append(f"{row['name']} ({row['section']}): {got} instead of {row['reaction']}")
    assert not wrong, "\n".join(wrong)
    # And the gateway is as it was.
    assert one.hosts.exchange(wire.request(wire.GET, "/hello"), family).code_text == "2.05"


def gather(sockets, wanted):
    """Whatever comes back: all that is wanted, and 300 ms more for what is not."""
    answers, until = {}, time.monotonic() + 10
    while time.monotonic() < until:
        for sock in select.select(list(sockets), [], [], 0.1)[0]:
            answers.setdefault(sock, []).append(sock.recv(2048))
        if len(answers) >= wanted:
            until = min(until, time.monotonic() + 0.3)
    return answers
