"""Resources that the gateway itself holds, made and observed by libcoap's client and by hand; on one
worker and on several. On a TAP."""

import os
import re
import tempfile

import pytest

import wire
from client import Client, Crowd
from conftest import coap_client, shared_rig
from gateway import LISTENERS, small
from netns import wait_until
from transports import GATEWAY4

ROUTES = """
routes:
  - path: /shared
    resources: {create: true}
  - path: /few
    resources: {max: 8, size: 64KiB}
  - path: /text
    resources: {formats: [text/plain]}
  - path: /fixed
    resources: {create: false}
"""
WORKERS = 2
TEXT = (wire.CONTENT_FORMAT, b"")


@pytest.fixture(scope="module", params=[1, WORKERS], ids=["alone", "shared"])
def hosts(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resources")
    with shared_rig(folder, small() + LISTENERS + ROUTES, workers=request.param) as one:
        yield one.hosts


@pytest.fixture
def net(hosts):
    return hosts.namespace


@pytest.fixture
def path(request):
    return "/shared/" + re.sub(r"\W", "_", request.node.name)


def uri(path):
    return f"coap://{GATEWAY4}{path}"


def clients(net, count=12):
    """Endpoints that are served by all workers, as their ports differ."""
    return [Client(net) for _ in range(count)]


def everywhere(net, path, code, payload=None, count=12):
    """A write is answered when its writer's worker has it; the others have it soon."""
    wait_until(f"all workers answer {code}", lambda: all(
        a.code_text == code and payload in (None, a.payload)
        for a in (client.get(path) for client in clients(net, count))))


# libcoap's client.

@pytest.mark.core
def test_libcoap_client(net, path):
    assert coap_client(net, uri(path)).code == "4.04"
    assert coap_client(net, uri(path), "-m", "put", "-t", "text/plain", "-e", "one").code == "2.01"
    everywhere(net, path, "2.05", b"one")
    answer = coap_client(net, uri(path))
    assert (answer.code, answer.payload.strip()) == ("2.05", "one")
    assert "Content-Format:text/plain" in answer.output and "ETag:" in answer.output
    assert coap_client(net, uri(path), "-m", "put", "-e", "two").code == "2.04"
    everywhere(net, path, "2.05", b"two")
    assert coap_client(net, uri(path)).payload.strip() == "two"
    assert coap_client(net, uri(path), "-m", "post", "-e", "x").code == "4.05"
    assert coap_client(net, uri(path), "-m", "delete").code == "2.02"
    everywhere(net, path, "4.04")
    assert coap_client(net, uri(path)).code == "4.04"


@pytest.mark.core
@pytest.mark.parametrize("size", [16, 64, 256, 1024])
def test_libcoap_client_in_blocks(net, path, size):
    body = "".join(f"{i:09}\n" for i in range(6 * size // 10 + 300))
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(body)
        file.flush()
        assert coap_client(net, uri(path), "-m", "put", "-b", size, "-f", file.name,
                           timeout=30).code == "2.01"
    everywhere(net, path, "2.05")
    for asked in (size, 1024):
        answer = coap_client(net, uri(path), "-b", asked, timeout=30)
        assert answer.payload.strip("\n") == body.strip("\n"), answer.output[-2000:]


@pytest.mark.core
def test_libcoap_client_observes(net, path):
    """It sees each state that others put, and its end."""
    assert coap_client(net, uri(path), "-m", "put", "-e", "state 0").code == "2.01"
    everywhere(net, path, "2.05")
    with tempfile.NamedTemporaryFile() as output:
        watcher = net.popen("coap-client-notls", "-s", 60, "-B", 60, "-w", "-v", "6", "-o",
                            output.name, uri(path))

        def seen():
            with open(output.name) as file:
                return file.read().split("\n")
        wait_until("the registration is answered", lambda: "state 0" in seen())
        for i in range(1, 8):
            assert coap_client(net, uri(path), "-m", "put", "-e", f"state {i}").code == "2.04"
            wait_until(f"state {i} is seen", lambda: f"state {i}" in seen())
        assert coap_client(net, uri(path), "-m", "delete").code == "2.02"
        net.stop(watcher)
    everywhere(net, path, "4.04")
    assert coap_client(net, uri(path)).code == "4.04"


# All workers have it.

@pytest.mark.core
def test_all_workers_give_what_one_took(hosts, net, path):
    """Each write is answered when it is seen by the one who made it, and soon by all."""
    for i, client in enumerate(clients(net)):
        payload = b"state %d" % i
        answer = client.ask(wire.PUT, path, payload, options=[TEXT])
        assert answer.code_text == ("2.04" if i else "2.01")
        assert client.get(path).payload == payload
        everywhere(net, path, "2.05", payload, 4)
    etags = {client.get(path).option(wire.ETAG) for client in clients(net)}
    assert len(etags) == 1 and len(etags.pop()) == 8
    if hosts.transport.workers > 1:
        counters = hosts.gateway.counters()
        assert all(c.get("resource_states", 0) for c in counters.values()), counters
    assert clients(net, 1)[0].ask(wire.DELETE, path).code_text == "2.02"
    everywhere(net, path, "4.04")


@pytest.mark.core
def test_observers_on_all_workers(net, path):
    """A hundred endpoints hear of each state and, in the end, that it is gone."""
    writer = Client(net)
    assert writer.ask(wire.PUT, path, b"0", options=[TEXT]).code_text == "2.01"
    crowd = Crowd(net, 100, path)
    try:
        everywhere(net, path, "2.05")
        answers = crowd.request(range(100), 0)
        assert all(a.option(wire.OBSERVE) is not None for a in answers.values())
        for i in range(1, 12):
            assert writer.ask(wire.PUT, path, b"state %d" % i).code_text == "2.04"
            crowd.wait_for(b"state %d" % i)
        wanted = [b"state %d" % i for i in range(1, 12)]
        for states in crowd.states.values():
            assert [p for _, p in states if p.startswith(b"state")] == wanted
            numbers = [n for n, _ in states]
            assert numbers == sorted(numbers)
    finally:
        crowd.close()


@pytest.mark.core
def test_the_end_is_told(net, path):
    watchers = clients(net, 8)
    assert watchers[0].ask(wire.PUT, path, b"0", options=[TEXT]).code_text == "2.01"
    everywhere(net, path, "2.05")
    tokens = [os.urandom(4) for _ in watchers]
    for client, token in zip(watchers, tokens):
        assert client.observe(path, token).option(wire.OBSERVE) is not None
    assert Client(net).ask(wire.DELETE, path).code_text == "2.02"
    for client, token in zip(watchers, tokens):
        last = client.notification(token)
        assert (last.code_text, last.option(wire.OBSERVE)) == ("4.04", None)
    assert Client(net).ask(wire.PUT, path, b"1").code_text == "2.01"
    assert all(client.is_quiet(0.1) for client in watchers)


def test_one_of_many_is_the_first(net, path):
    """If-None-Match through all workers at once: one makes it, the others hear that it is there."""
    crowd = clients(net)
    requests = [wire.request(wire.PUT, path, b"%d" % i,
                             options=[(wire.IF_NONE_MATCH, b"")]) for i in range(len(crowd))]
    for client, request in zip(crowd, requests):
        client.send(request)
    codes = [client.exchange(request).code_text for client, request in zip(crowd, requests)]
    assert sorted(codes) == ["2.01"] + ["4.12"] * (len(crowd) - 1)
    first = codes.index("2.01")
    everywhere(net, path, "2.05", b"%d" % first)


def test_compare_and_swap(net, path):
    """Clients that count with If-Match lose no step, whichever worker they are at."""
    crowd = clients(net, 6)
    assert crowd[0].ask(wire.PUT, path, b"0").code_text == "2.01"
    done = 0
    while done < 30:
        client = crowd[done % len(crowd)]
        seen = client.get(path)
        if seen.code_text != "2.05":
            continue
        answer = client.ask(wire.PUT, path, b"%d" % (int(seen.payload) + 1),
                            options=[(wire.IF_MATCH, seen.option(wire.ETAG))])
        assert answer.code_text in ("2.04", "4.12")
        done += answer.code_text == "2.04"
    everywhere(net, path, "2.05", b"30")


# Limits and refusals.

def test_as_many_as_there_may_be(net):
    """/few holds 8, however its writers are spread; one that goes makes room."""
    codes = []
    for i, client in enumerate(clients(net)):
        codes.append(client.ask(wire.PUT, f"/few/{i}", b"x").code_text)
        if codes[-1] == "2.01":
            everywhere(net, f"/few/{i}", "2.05")
    assert codes == ["2.01"] * 8 + ["5.03"] * 4
    client = Client(net)
    assert client.ask(wire.DELETE, "/few/3").code_text == "2.02"
    wait_until("there is room", lambda: client.ask(wire.PUT, "/few/9", b"x").code_text == "2.01")
    for i in range(12):
        assert client.ask(wire.DELETE, f"/few/{i}").code_text == "2.02"


def test_formats(net):
    client = Client(net)
    assert client.ask(wire.PUT, "/text/a", b"x").code_text == "4.15"
    assert client.ask(wire.PUT, "/text/a", b"x", options=[(wire.CONTENT_FORMAT, b"\x32")]).code_text \
        == "4.15"
    assert client.ask(wire.PUT, "/text/a", b"x", options=[TEXT]).code_text == "2.01"
    assert client.ask(wire.PUT, "/fixed/a", b"x").code_text == "4.05"


@pytest.mark.core
def test_discovery(net, path):
    answer = coap_client(net, uri(path), "-m", "put", "-t", "application/json", "-e", "{}")
    assert answer.code == "2.01"
    everywhere(net, path, "2.05")
    listed = coap_client(net, uri("/.well-known/core"), "-b", 64, timeout=30).payload
    links = listed.strip().split(",")
    assert f"<{path}>;obs;ct=50" in links
    assert "</few>" in links
    one = coap_client(net, uri(f"/.well-known/core?href={path}"))
    assert one.payload.strip() == f"<{path}>;obs;ct=50"
