"""Messages that the gateway does not send although it believes that it did: every confirmable
exchange is completed or given up by the schedule of the transmission parameters, and by nothing
else. On a TAP, whose capture shows what was sent."""

import threading
import time

import pytest

import wire
from capture import Capture, transmissions
from client import Client
from gateway import small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import GATEWAY4, HOST4

ACK_TIMEOUT = 0.5
# What a busy machine may add. A transmission at the wrong step of the schedule is 500 ms off at least.
LATE = 0.24
# Times of all transmissions, and when it is given up (RFC 7252 4.8.2: MAX_TRANSMIT_WAIT).
SCHEDULE = [ACK_TIMEOUT * ((1 << n) - 1) for n in range(5)]
GIVEN_UP = ACK_TIMEOUT * 31
PARAMETERS = "{ack_timeout: 500ms, ack_random_factor: 1, max_retransmit: 4, nstart: 1000}"


def text(loss):
    return small(client_requests=1000) + f"""
listeners:
  - {{uri: "coap://{GATEWAY4}", transmission: {PARAMETERS}}}
cache: {{size: 0}}
observe: {{confirm_every: 1}}
separate_after: 10s
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], retries: 0, revive: 100ms, timeout: 40s,
      transmission: {PARAMETERS}}}
routes:
  - {{path: /, to: o}}
  - {{path: /hello, respond: {{payload: "hello world!"}}}}
debug: {{packet_loss: "{loss}"}}
"""


def step(seconds):
    """Which transmission of a schedule is at this time: its number, from 0, and how far it is off."""
    number = min(range(len(SCHEDULE)), key=lambda n: abs(SCHEDULE[n] - seconds))
    return number, seconds - SCHEDULE[number]


def ask_upstream(sock, count, origin_port=5701):
    """Non-confirmable requests that the origin gets as confirmable ones."""
    for i in range(count):
        sock.send(wire.request(wire.GET, "/x", type=wire.NON, query=(f"n={i}",),
                               token=i.to_bytes(2, "big")).encode())
        time.sleep(0.002)


def exchanges(packets):
    """{n: [time of the client's request, times of what the origin got, (time, code) of the client's
    answers]} for the requests of ask_upstream()."""
    found = {}
    for p in packets:
        query = p.message.option(wire.URI_QUERY)
        if query and p.target[1] == 5683:
            found[int(query[2:])] = [p.time, [], []]
        elif query and p.target[1] == 5701:
            found[int(query[2:])][1].append(p.time)
        elif p.from_gateway and p.source[1] == 5683 and len(p.message.token) == 2:
            found[wire.number(p.message.token)][2].append((p.time, p.message.code_text))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("loss", [20, 40])
def test_requests_to_the_origin(rig, loss, tmp_path):
    """All are sent before the first one is given up: a server that seems to be down is left alone."""
    one = rig(text(f"{loss}%"))
    count = 400
    with Origin(one.hosts.namespace, HOST4, 5701, {"/x": Resource(b"x")}) as origin, \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        sock = one.hosts.socket()
        ask_upstream(sock, count)
        # Whatever is lost, it is over for all.
        time.sleep(GIVEN_UP + 1)
    found = exchanges(capture.packets)
    assert len(found) == count
    steps, failed = [0] * 5, 0
    for asked, sent, answered in found.values():
        assert len(sent) <= 1, f"asked at {asked}, the origin answered at {sent}"
        if sent:
            number, off = step(sent[0] - asked)
            assert -0.01 < off < LATE, f"sent {sent[0] - asked:.3f} s after the request"
            steps[number] += 1
            assert all(code == "2.05" for _, code in answered)
        else:
            failed += 1
            for when, code in answered:
                assert code == "5.04" and -0.01 < when - asked - GIVEN_UP < LATE
    check_shares(steps, failed, loss / 100)
    answers = sum(len(answered) for *_, answered in found.values())
    assert 0.7 < answers / (count * (1 - loss / 100)) < 1.3
    assert origin.count() == count - failed


def check_shares(steps, failed, loss):
    """Transmission n comes through when the n before were lost: with 400 exchanges each share is what
    it should be within five standard deviations."""
    total = sum(steps) + failed
    for n, seen in enumerate(steps):
        share = loss ** n * (1 - loss)
        margin = 5 * (total * share * (1 - share)) ** 0.5 + 1
        assert abs(seen - total * share) < margin, f"{steps} and {failed} failed, loss {loss}"
    assert failed < total * loss ** 5 + 5 * (total * loss ** 5) ** 0.5 + 1, f"{failed} failed"


@pytest.mark.slow
@pytest.mark.parametrize("loss", [20, 40])
def test_notifications(rig, loss, tmp_path):
    """Clients that acknowledge nothing: each confirmable notification is sent at five times, less what
    is lost, and then the relation is over."""
    one = rig(text(f"{loss}%"))
    resource = Resource(b"0", observable=True, max_age=600)
    with Origin(one.hosts.namespace, HOST4, 5701, {"/x": resource}) as origin, \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        clients = [Client(one.hosts.namespace) for _ in range(60)]
        for client in clients:
            register(client)
        begun = time.time()
        origin.change("/x", b"1")
        wait_until("all relations are over", timeout=60, condition=lambda:
                   one.gateway.counter("relations_lost") + one.gateway.counter("relations_failed")
                   >= len(clients) or time.time() > begun + GIVEN_UP + 2)
    sent = {key: times for key, times in transmissions(after(capture.packets, begun)).items()
            if key[0][1] != 5701}
    assert len(sent) <= len(clients)
    count = 0
    for times in sent.values():
        for when in times:
            number, off = step(when - begun)
            assert -0.01 < off < LATE, f"sent {when - begun:.3f} s after the change"
            count += 1
        assert len({step(when - begun)[0] for when in times}) == len(times), "twice at one time"
    expected = 5 * len(clients) * (1 - loss / 100)
    assert abs(count - expected) < 5 * (expected * loss / 100) ** 0.5


def register(client):
    """Until it is answered: answers are lost, too."""
    client.acknowledge = False
    message = wire.request(wire.GET, "/x", options=[(wire.OBSERVE, b"")])
    while True:
        client.send(message)
        try:
            if client.receive(0.3).option(wire.OBSERVE) is not None:
                return
        except TimeoutError:
            pass


def after(packets, when):
    return [p for p in packets if p.time >= when - 0.001]


@pytest.mark.parametrize("loss, first", [("1", 1), ("1-2", 2), ("1,2-3", 3), ("1-4", 4),
                                         ("2-9", 0)])
def test_the_nth_messages(rig, loss, first, tmp_path):
    """The first messages of the gateway are the transmissions of a request to the origin: it gets the
    one that is not lost, when it is due."""
    one = rig(text(loss))
    with Origin(one.hosts.namespace, HOST4, 5701, {"/x": Resource(b"x")}), \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        ask_upstream(one.hosts.socket(), 1)
        wait_until("it is sent", lambda: exchanges(capture.read()).get(0, [0, []])[1])
    asked, sent, _ = exchanges(capture.packets)[0]
    assert len(sent) == 1
    number, off = step(sent[0] - asked)
    assert (number, -0.01 < off < LATE) == (first, True), sent[0] - asked


@pytest.mark.slow
def test_all_transmissions_lost(rig, tmp_path):
    """Five are lost: 5.04 when the last one has not been answered, and not before."""
    one = rig(text("1-5"))
    with Origin(one.hosts.namespace, HOST4, 5701, {"/x": Resource(b"x")}) as origin, \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        ask_upstream(one.hosts.socket(), 1)
        wait_until("it is answered", timeout=GIVEN_UP + 20,
                   condition=lambda: exchanges(capture.read()).get(0, [0, [], []])[2])
    asked, sent, answered = exchanges(capture.packets)[0]
    assert sent == [] and origin.count() == 0
    assert [code for _, code in answered] == ["5.04"]
    assert -0.01 < answered[0][0] - asked - GIVEN_UP < LATE


def test_everything_lost(rig, tmp_path):
    """100%: not a single message of CoAP leaves."""
    one = rig(text("100%"))
    with Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        sock = one.hosts.socket()
        for _ in range(50):
            sock.send(wire.request(wire.GET, "/hello").encode())
        wait_until("they have arrived", lambda: one.gateway.counter("requests") == 50)
        time.sleep(0.5)
    assert len(capture.packets) == 50
    assert not any(p.from_gateway for p in capture.packets)


def test_nothing_lost(rig):
    one = rig(text("0%"))
    client = Client(one.hosts.namespace)
    for _ in range(200):
        assert client.get("/hello", timeout=1.5).payload == b"hello world!"
    assert client.received == 200


def ask_until_answered(client, message, seconds=60):
    """Sends it again and again: each time, the answer is lost or not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.send(message)
        try:
            answer = client.receive(0.3)
            while answer.token != message.token:
                answer = client.receive(0.3)
            return answer
        except TimeoutError:
            pass
    raise AssertionError(f"no answer to {message}")


def test_clients_get_through(rig):
    """40 %: clients that repeat their requests are all answered, and each request is carried out
    once."""
    one = rig(text("40%"))
    wrong = []

    def work(i):
        client = Client(one.hosts.namespace)
        for n in range(5):
            try:
                answer = ask_until_answered(client, wire.request(wire.POST, f"/post-{i}-{n}", b"x"))
                assert answer.code_text in ("2.01", "5.04"), answer
            except AssertionError as error:
                wrong.append(error)

    with Origin(one.hosts.namespace, HOST4, 5701) as origin:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[0]
        paths = [m.path for m in origin.requests]
        assert len(set(paths)) == len(paths) > 90
