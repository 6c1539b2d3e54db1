"""The forward proxy: where Proxy-Uri and Proxy-Scheme lead, and where they never do. On a TAP."""

import os

import pytest

import wire
from client import Client
from conftest import coap_client, shared_rig, start_origin
from dns import Dns
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import GATEWAY4, GATEWAY6, GATEWAY_ADDRESSES, HOST4, HOST6

OTHER4 = "10.99.0.9"       # a neighbour that is not in `allow`
SECOND4 = "10.99.0.3"      # an address of the gateway without a listener
DNS_PORT = 5353

FORWARD = f"""
forward_proxy:
  allow: [{HOST4}/32, "{HOST6}/128", origin.example, "*.fleet.example", nowhere.example,
          mute.example, 10.99.0.2/31, "127.0.0.0/8", "::1/128", "224.0.0.0/4", "fe80::/10",
          "0.0.0.0/8", "ff00::/8"]
  dns_servers: ["{HOST4}:{DNS_PORT}"]
  transmission: {{nstart: 64, ack_timeout: 500ms, max_retransmit: 1}}
"""
ROUTES = f"""
upstreams: [{{name: reverse, servers: ["coap://{HOST4}:5702"]}}]
routes:
  - {{path: /hello, respond: {{payload: "hello world!", content_format: text/plain, max_age: 60s}}}}
  - {{path: /reverse, to: reverse}}
"""
NAMES = {
    "origin.example": [HOST4], "other.example": [HOST4], "fleet.example": [HOST4],
    "a.fleet.example": [HOST4], "b.a.fleet.example": [HOST4], "six.fleet.example": [HOST6],
    "alias.fleet.example": "origin.example", "round.fleet.example": "round.fleet.example",
    "stranger.fleet.example": [OTHER4], "loop.fleet.example": ["127.0.0.1"],
    "six-loop.fleet.example": ["::1"], "own.fleet.example": [SECOND4],
    "listener.fleet.example": [GATEWAY4],
    "group.fleet.example": ["224.0.1.187"], "local.fleet.example": ["fe80::1"],
    "mute.example": Dns.SILENT, "sick.fleet.example": Dns.SERVFAIL, "empty.fleet.example": []}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    text = small() + LISTENERS + FORWARD + ROUTES
    addresses = [*GATEWAY_ADDRESSES, f"{SECOND4}/24"]
    with shared_rig(tmp_path_factory.mktemp("forward"), text, addresses=addresses) as one:
        one.transport.hosts.add_address("south0", f"{OTHER4}/24")
        start_origin(one.hosts.namespace, HOST4)
        start_origin(one.hosts.namespace, HOST6)
        with Dns(one.hosts.namespace, NAMES, HOST4, DNS_PORT):
            yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def origin(net):
    with Origin(net, HOST4, 5701) as origin:
        yield origin


@pytest.fixture
def client(net):
    return Client(net)


def proxied(client, uri, method=wire.GET, payload=b"", path="", options=(), **arguments):
    uri = uri if isinstance(uri, bytes) else uri.encode()
    return client.ask(method, path, payload, options=[(wire.PROXY_URI, uri), *options], **arguments)


def through(net, uri, *arguments, proxy=f"coap://{GATEWAY4}"):
    return coap_client(net, uri, "-P", proxy, *arguments)


# coap-client -P.

@pytest.mark.core
@pytest.mark.parametrize("host", [
    HOST4, f"[{HOST6}]", "origin.example", "a.fleet.example", "b.a.fleet.example",
    "six.fleet.example", "alias.fleet.example", "ORIGIN.Example"])
def test_libcoap_client(net, host):
    answer = through(net, f"coap://{host}/")
    assert answer.code == "2.05", answer.output
    assert answer.payload.startswith("This is a test server made with libcoap")


def test_libcoap_client_over_ipv6(net):
    answer = through(net, f"coap://[{HOST6}]/time", proxy=f"coap://[{GATEWAY6}]")
    assert answer.code == "2.05" and answer.payload, answer.output


@pytest.mark.core
def test_libcoap_puts_and_gets(net):
    uri = "coap://origin.example/forwarded"
    for method, body, code in (("put", "one", "2.01"), ("get", "", "2.05"), ("put", "two", "2.04"),
                               ("get", "", "2.05"), ("delete", "", "2.02"), ("get", "", "4.04")):
        answer = through(net, uri, "-m", method, *(["-e", body] if body else []))
        assert answer.code == code, (method, answer.output)
        if code == "2.05":
            assert answer.payload in ("one", "two")


def test_libcoap_asks_another_port(net, origin):
    """It sends Uri-Host, Uri-Port and Uri-Path along, which count for nothing beside Proxy-Uri."""
    origin.resources["/a/b"] = Resource(b"there")
    for host in (HOST4, "origin.example"):
        answer = through(net, f"coap://{host}:5701/a/b?q=1")
        assert (answer.code, answer.payload) == ("2.05", "there"), answer.output
    assert [m.all(wire.URI_QUERY) for m in origin.requests] in ([[b"q=1"]] * 2, [[b"q=1"]])


def test_libcoap_observes(net, origin):
    origin.resources["/o"] = Resource(b"0", observable=True, max_age=600)
    uri = f"coap://{HOST4}:5701/o"
    watcher = net.popen("coap-client-notls", "-s", 30, "-P", f"coap://{GATEWAY4}", uri)
    wait_until("it is registered", lambda: len(origin.registered) == 1)
    client, token = Client(net), os.urandom(4)
    first = client.observe("", token, [(wire.PROXY_URI, uri.encode())])
    assert first.option(wire.OBSERVE) is not None
    origin.change("/o", b"1")
    assert client.notification(token).payload == b"1"
    assert len(origin.registered) == 1
    net.stop(watcher)
    client.cancel("", token, [(wire.PROXY_URI, uri.encode())])
    wait_until("it is cancelled", lambda: len(origin.cancelled) == 1)


def test_libcoap_in_blocks(net, tmp_path):
    body = "".join(f"{i:07d}\n" for i in range(2500))
    (tmp_path / "body").write_text(body)
    uri = "coap://origin.example/forwarded-blocks"
    put = through(net, uri, "-m", "put", "-b", "256", "-f", tmp_path / "body")
    assert put.code == "2.01", put.output[-2000:]
    assert coap_client(net, f"coap://{HOST4}/forwarded-blocks").payload == body
    assert through(net, uri, "-b", "64").payload == body


# What the origin gets.

@pytest.mark.core
@pytest.mark.parametrize("uri, path, query", [
    (f"coap://{HOST4}:5701", [], []),
    (f"coap://{HOST4}:5701/", [], []),
    (f"COAP://{HOST4}:5701/a/b", [b"a", b"b"], []),
    (f"coap://{HOST4}:5701/a//b/", [b"a", b"", b"b", b""], []),
    (f"coap://{HOST4}:5701/a%2Fb/%20?x=%26&y", [b"a/b", b" "], [b"x=&", b"y"]),
    (f"coap://{HOST4}:5701?q", [], [b"q"]),
])
def test_uri_becomes_options(origin, client, uri, path, query):
    """RFC 7252 6.4."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], b"here")
    answer = proxied(client, uri, wire.POST, b"p")
    assert (answer.code_text, answer.payload) == ("2.05", b"here")
    seen = origin.requests[0]
    assert (seen.all(wire.URI_PATH), seen.all(wire.URI_QUERY)) == (path, query)
    assert seen.option(wire.PROXY_URI) is None and seen.option(wire.PROXY_SCHEME) is None


@pytest.mark.core
def test_proxy_uri_wins(origin, client):
    """RFC 7252 5.10.2: the Uri options beside it are not looked at."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    options = [(wire.URI_HOST, b"10.99.0.77"), (wire.URI_PORT, wire.uint(5799)),
               (wire.URI_QUERY, b"no")]
    answer = proxied(client, f"coap://{HOST4}:5701/right", path="/wrong", options=options)
    assert answer.payload == b"/right"
    assert origin.requests[0].option(wire.URI_QUERY) is None


@pytest.mark.core
def test_proxy_scheme(origin, client):
    """With Uri-Host, Uri-Port and the path in options of their own."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    options = [(wire.PROXY_SCHEME, b"coap"), (wire.URI_PORT, wire.uint(5701))]
    for host in (HOST4, "origin.example"):
        answer = client.get("/a/b", host=host, query=("q",), options=options)
        assert (answer.code_text, answer.payload) == ("2.05", b"/a/b"), answer
    assert all(m.all(wire.URI_QUERY) == [b"q"] for m in origin.requests)
    assert client.get("/a", options=[(wire.PROXY_SCHEME, b"coap")]).code_text == "4.02"


@pytest.mark.parametrize("scheme", [b"http", b"coaps", b"coap+tcp", b"x"])
def test_other_proxy_schemes(client, scheme):
    assert client.get("/a", host=HOST4, options=[(wire.PROXY_SCHEME, scheme)]).code_text == "5.05"


def test_origin_gets_the_name_as_uri_host(origin, client):
    """A server may serve many names: the one that was asked for is its to see (RFC 7252 5.7.2)."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], m.option(wire.URI_HOST) or b"none")
    assert proxied(client, "coap://origin.example:5701/h").payload == b"origin.example"
    assert proxied(client, "coap://a.fleet.example:5701/h").payload == b"a.fleet.example"
    assert proxied(client, f"coap://{HOST4}:5701/h").payload in (b"none", HOST4.encode())


@pytest.mark.core
def test_local_target(client):
    """The gateway's own listener as the target is a request to the gateway itself."""
    for uri in (f"coap://{GATEWAY4}/hello", f"coap://{GATEWAY4}:5683/hello",
                f"coap://[{GATEWAY6}]/hello"):
        answer = proxied(client, uri)
        assert (answer.code_text, answer.payload) == ("2.05", b"hello world!"), uri


# What is not allowed.

@pytest.mark.core
@pytest.mark.parametrize("host", [
    OTHER4, "10.99.0.77", "192.0.2.1", "[2001:db8::1]", "other.example", "fleet.example",
    "origin.example.org", "xfleet.example", "notorigin.example"])
def test_not_in_the_list(net, client, host):
    with Origin(net, OTHER4, 5683) as stranger:
        assert proxied(client, f"coap://{host}/").code_text == "4.03"
        assert stranger.requests == []


@pytest.mark.core
@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.9.9.9", "[::1]", f"{GATEWAY4}:5699", f"[{GATEWAY6}]:5699", SECOND4,
    "224.0.1.187", "[ff02::fd]", "[fe80::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]",
    "169.254.1.1", "255.255.255.255"])
def test_never_allowed(client, host):
    """Loopback, link-local, group, unspecified and own addresses: whatever the list says."""
    assert proxied(client, f"coap://{host}/").code_text == "4.03"


@pytest.mark.core
@pytest.mark.parametrize("name", ["loop", "own", "listener", "group", "local", "six-loop"])
def test_allowed_name_with_a_forbidden_address(client, name):
    """A name server must not be able to lead the gateway inside."""
    assert proxied(client, f"coap://{name}.fleet.example/").code_text == "4.03"


def test_allowed_name_needs_no_allowed_address(net, client):
    with Origin(net, OTHER4, 5701, {"/x": Resource(b"x")}) as stranger:
        assert proxied(client, "coap://stranger.fleet.example:5701/x").payload == b"x"
        assert stranger.count() == 1


@pytest.mark.core
@pytest.mark.parametrize("uri, code", [
    ("http://origin.example/", "5.05"), ("coaps://origin.example/", "5.05"),
    ("coap+tcp://origin.example/", "5.05"), ("coaps+tcp://origin.example/", "5.05"),
    ("ftp://origin.example/", "5.05"), ("x:y", "5.05"),
    ("nonsense", "4.00"), ("coap:", "4.00"), ("coap://", "4.00"), ("coap:///path", "4.00"),
    ("coap://user@origin.example/", "4.00"), ("coap://origin.example/#part", "4.00"),
    ("coap://origin.example:0x/", "4.00"), ("coap://origin.example:70000/", "4.00"),
    ("coap://[::1", "4.00"), ("coap://origin.example/%zz", "4.00"), ("/relative", "4.00"),
    ("//origin.example/", "4.00")])
def test_uris_that_are_none_of_ours(client, uri, code):
    """Schemes of others are 5.05; what is no URI with a host is 4.00."""
    assert proxied(client, uri).code_text == code


@pytest.mark.parametrize("length", [0, 1035])
def test_uri_of_a_length_that_the_option_cannot_have(client, length):
    """RFC 7252 5.10, 5.4.3: 1 to 1,034 bytes; else the option is as good as unknown: 4.02."""
    assert proxied(client, f"coap://{HOST4}:5701/".ljust(1100, "a")[:length]).code_text == "4.02"


def test_longest_uri(origin, client):
    origin.answer = lambda m: piggybacked(m, "2.05", [], b"%d" % len(m.path))
    uri = f"coap://{HOST4}:5701"
    long = uri + ("/" + "a" * 254) * 4
    assert proxied(client, long[:1034]).payload == b"%d" % (1034 - len(uri))


# Names.

@pytest.mark.core
def test_name_that_does_not_exist(client):
    assert proxied(client, "coap://nowhere.example/").code_text == "5.02"
    for name in ("unknown", "empty", "sick", "round"):
        assert proxied(client, f"coap://{name}.fleet.example/").code_text == "5.02", name


@pytest.mark.core
def test_resolver_that_does_not_answer(net, client):
    """5.04, and meanwhile everybody else is served."""
    message = client.send(wire.request(wire.GET, "", type=wire.NON,
                                       options=[(wire.PROXY_URI, b"coap://mute.example/")]))
    other = Client(net)
    for _ in range(50):
        assert other.get("/hello", timeout=5).code_text == "2.05"
        assert proxied(other, "coap://origin.example/", timeout=5).code_text == "2.05"
    answer = client.receive(90)
    assert (answer.token, answer.code_text) == (message.token, "5.04")


def test_resolver_that_is_not_there(rig):
    """Its port is closed."""
    hosts = rig(small() + LISTENERS + FORWARD.replace(str(DNS_PORT), "5355") + ROUTES).hosts
    answer = proxied(Client(hosts.namespace), "coap://origin.example/", timeout=90)
    assert answer.code_text in ("5.02", "5.04")


def test_many_names_at_once(shared, net, origin):
    """100 clients, each with a name of its own, of which half exist."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    clients = [Client(net) for _ in range(100)]
    for i, client in enumerate(clients):
        name = "origin.example" if i % 2 else f"n{i}.fleet.example"
        client.send(wire.request(wire.GET, "", type=wire.NON, token=b"%03d" % i,
                                 options=[(wire.PROXY_URI, f"coap://{name}:5701/{i}".encode())]))
    for i, client in enumerate(clients):
        answer = client.receive()
        assert (answer.token, answer.code_text) == (b"%03d" % i, "2.05" if i % 2 else "5.02")


# As a proxy like any other.

@pytest.mark.core
def test_off_by_default(rig):
    hosts = rig(small() + LISTENERS + ROUTES).hosts
    client = Client(hosts.namespace)
    with Origin(hosts.namespace, HOST4, 5701) as origin:
        assert proxied(client, f"coap://{HOST4}:5701/").code_text == "5.05"
        scheme = [(wire.PROXY_SCHEME, b"coap")]
        assert client.get("/a", host=HOST4, options=scheme).code_text == "5.05"
        assert origin.requests == []
    assert through(hosts.namespace, f"coap://{HOST4}/").code == "5.05"


@pytest.mark.core
def test_targets_have_their_own_cache_entries(net, client):
    """Scheme, host and port are in the key; written in another way they are the same."""
    with Origin(net, HOST4, 5701, {"/k": Resource(b"v4", max_age=600)}) as one, \
            Origin(net, HOST6, 5701, {"/k": Resource(b"v6", max_age=600)}) as six, \
            Origin(net, HOST4, 5702, {"/k": Resource(b"5702", max_age=600)}) as port:
        for _ in range(2):
            assert proxied(client, f"coap://{HOST4}:5701/k").payload == b"v4"
            assert proxied(client, f"coap://[{HOST6}]:5701/k").payload == b"v6"
            assert proxied(client, f"coap://{HOST4}:5702/k").payload == b"5702"
        assert proxied(client, f"COAP://{HOST4}:05701/%6b").payload == b"v4"
        assert proxied(client, "coap://[fd99:0:0::1]:5701/k").payload == b"v6"
        options = [(wire.PROXY_SCHEME, b"coap"), (wire.URI_PORT, wire.uint(5701))]
        assert client.get("/k", host=HOST4, options=options).payload == b"v4"
        assert [o.count() for o in (one, six, port)] == [1, 1, 1]


def test_origin_that_is_silent_or_closed(net, client):
    hole = net.socket()
    hole.bind((HOST4, 5709))
    assert proxied(client, f"coap://{HOST4}:5709/").code_text == "5.04"
    hole.close()
    assert proxied(client, f"coap://{HOST4}:5708/").code_text == "5.04"


def test_hops(origin, client):
    origin.answer = lambda m: piggybacked(m, "2.05")
    uri = f"coap://{HOST4}:5701/x"
    assert proxied(client, uri, wire.POST).code_text == "2.05"
    assert proxied(client, uri, wire.POST, options=[(wire.HOP_LIMIT, b"\x05")]).code_text == "2.05"
    assert proxied(client, uri, wire.POST, options=[(wire.HOP_LIMIT, b"\x01")]).code_text == "5.08"
    assert [m.uint(wire.HOP_LIMIT) for m in origin.requests] == [16, 4]
