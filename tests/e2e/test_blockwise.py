"""Block-wise transfer (RFC 7959) on both legs, each with a block size of its own. On a TAP."""

import re
import tempfile
import time

import pytest

import wire
from client import Client
from conftest import coap_client, shared_rig, start_origin
from gateway import small
from netns import wait_until
from resources import Origin, Resource, block_bytes, piggybacked
from transports import GATEWAY4, HOST4

SIZES = {64: "64B", 256: "256B", 512: "512B", 1024: "1KiB"}
PORTS = {1024: 5683, 256: 5684, 64: 5685}  # listeners
BODY = 60000

# /uSIZE leads to the same origin in blocks of that size; /cSIZE to libcoap's server.
TEXT = "listeners:\n" + "".join(
    f'  - {{uri: "coap://{GATEWAY4}:{port}", block_size: {SIZES[size]}}}\n'
    for size, port in PORTS.items()
) + "upstreams:\n" + "".join(
    f'  - {{name: {name}{size}, servers: ["coap://{HOST4}:{port}"], block_size: {text},\n'
    f'      transmission: {{nstart: 64}}}}\n'
    for size, text in SIZES.items() for name, port in (("u", 5701), ("c", 5683))
) + "routes:\n" + "".join(
    f"  - {{path: /u{size}, to: u{size}, strip: true}}\n"
    f"  - {{path: /c{size}, to: c{size}, strip: true}}\n" for size in SIZES
) + f"""  - {{path: /static, respond: {{payload: "{'static ' * 500}", content_format: text/plain}}}}
"""


def szx_of(size):
    return size.bit_length() - 5


def text_of(length, seed=7):
    """Text in which no two blocks are alike."""
    lines = (f"{seed}:{i:06d} {i * 2654435761 % 1000003:07d}\n" for i in range(length // 16 + 1))
    return "".join(lines).encode()[:length]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    text = small(body="64KiB") + "cache: {size: 256KiB}\n" + TEXT
    with shared_rig(tmp_path_factory.mktemp("blockwise"), text) as one:
        start_origin(one.hosts.namespace, HOST4)
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


@pytest.fixture
def path(request):
    """One that no other test asks for, below the route for blocks of 1,024 bytes."""
    return "/" + re.sub(r"\W", "_", request.node.name)[-60:]


# libcoap's client and server, 60,000 bytes each way.

@pytest.mark.parametrize("listener, upstream, client_size", [
    (1024, 1024, 1024), (1024, 256, 1024), (1024, 64, 256), (256, 1024, 1024), (256, 64, 64),
    (256, 512, 256), (64, 1024, 1024), (64, 256, 64), (64, 64, 256), (1024, 1024, 64)])
def test_60000_bytes_with_libcoap(net, listener, upstream, client_size):
    transfer_with_libcoap(net, listener, upstream, client_size)


@pytest.mark.core
def test_60000_bytes_with_libcoap_in_short(net):
    transfer_with_libcoap(net, 256, 512, 1024)


def transfer_with_libcoap(net, listener, upstream, client_size):
    """PUT, and GET of what was put, through the gateway and at the origin itself."""
    body = text_of(BODY, seed=listener + upstream + client_size)
    name = f"b{listener}-{upstream}-{client_size}"
    uri = f"coap://{GATEWAY4}:{PORTS[listener]}/c{upstream}/{name}"
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        put = coap_client(net, uri, "-b", client_size, "-m", "put", "-f", file.name, timeout=60)
    assert put.code == "2.01", put.output[-2000:]
    assert coap_client(net, f"coap://{HOST4}/{name}", timeout=60).payload.encode() == body
    got = coap_client(net, uri, "-b", client_size, timeout=60)
    assert got.code == "2.05", got.output[-2000:]
    assert got.payload.encode() == body
    assert coap_client(net, uri, timeout=60).payload.encode() == body


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["3,9,20", "1,30", "10%"])
def test_libcoap_on_a_bad_line(net, lost):
    """The client's datagrams get lost; all of the body arrives, once."""
    body = text_of(8000, seed=len(lost))
    uri = f"coap://{GATEWAY4}/c256/lossy{len(lost)}"
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        put = coap_client(net, uri, "-b", 256, "-m", "put", "-f", file.name, "-l", lost, timeout=90)
    assert put.code in ("2.01", "2.04"), put.output[-2000:]
    assert coap_client(net, uri, "-b", 256, "-l", lost, timeout=90).payload.encode() == body


# Downloads.

@pytest.mark.core
@pytest.mark.parametrize("listener, upstream", [(1024, 64), (64, 1024), (256, 256)])
def test_each_leg_has_its_own_blocks_down(net, origin, listener, upstream, path):
    body = text_of(5000)
    origin.resources[path] = Resource(body, etag=b"tag", max_age=60, content_format=42)
    client = Client(net, port=PORTS[listener])
    got, answers = client.download(f"/u{upstream}{path}")
    assert got == body
    assert {a.block(wire.BLOCK2)[2] for a in answers} == {szx_of(listener)}
    assert all(len(a.payload) == listener for a in answers[:-1])
    assert answers[0].uint(wire.SIZE2) == 5000
    assert len({a.option(wire.ETAG) for a in answers}) == 1 and answers[0].option(wire.ETAG)
    assert {a.option(wire.CONTENT_FORMAT) for a in answers} == {b"\x2a"}
    asked = [m.block(wire.BLOCK2) for m in origin.requests]
    assert all(b[2] == szx_of(upstream) for b in asked if b), asked
    assert len(asked) == -(-5000 // upstream), "each of the origin's blocks once"


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 2048, 65536])
def test_lengths_at_the_edge_of_a_block(origin, client, path, length):
    body = text_of(length)
    origin.resources[path] = Resource(body)
    got, answers = client.download("/u1024" + path)
    assert got == body and len(answers) == max(1, -(-length // 1024))


@pytest.mark.core
@pytest.mark.parametrize("szx", range(7))
def test_client_chooses_smaller_blocks(origin, client, path, szx):
    body = text_of(3000)
    origin.resources[path] = Resource(body)
    got, answers = client.download("/u1024" + path, szx=szx)
    assert got == body
    assert {a.block(wire.BLOCK2)[2] for a in answers} == {szx}
    assert origin.count() == 3


def test_client_changes_to_smaller_blocks(origin, client, path):
    """RFC 7959 2.4: the number counts in blocks of the new size."""
    body = text_of(3000)
    origin.resources[path] = Resource(body)
    assert client.get("/u1024" + path).payload == body[:1024]
    answer = client.get("/u1024" + path, options=[(wire.BLOCK2, wire.block(16, 0, 2))])
    assert (answer.payload, answer.block(wire.BLOCK2)) == (body[1024:1088], (16, 1, 2))
    answer = client.get("/u1024" + path, options=[(wire.BLOCK2, wire.block(46, 0, 2))])
    assert (answer.payload, answer.block(wire.BLOCK2)) == (body[2944:], (46, 0, 2))


@pytest.mark.core
def test_blocks_that_do_not_exist(origin, client, path):
    origin.resources[path] = Resource(text_of(3000))
    for where in ("/u1024" + path, "/static"):
        assert client.get(where).code_text == "2.05"
        for value in (wire.block(4, 0, 6), wire.block(1000, 0, 6), wire.block(0, 0, 7)):
            answer = client.get(where, options=[(wire.BLOCK2, value)])
            assert answer.code_text == "4.00", (where, value, answer)


@pytest.mark.core
def test_body_that_changes_meanwhile(net, origin, client, path):
    """A client that has begun ends with what it has begun, or can tell: never a mixture. Another
    gets the new one from the start."""
    old, new = text_of(5000, seed=1), text_of(5000, seed=2)
    origin.resources[path] = Resource(old, etag=b"old", max_age=1)
    first = client.get("/u256" + path, options=[(wire.BLOCK2, wire.block(0, 0, 4))])
    origin.change(path, new, etag=b"new", max_age=600)
    time.sleep(1.5)
    assert Client(net).download("/u256" + path)[0] == new
    got, answers = client.download("/u256" + path, first=first)
    assert len({a.option(wire.ETAG) for a in answers}) == 1
    assert got == old


def test_many_clients_fetch_one_body(net, origin, path):
    """Each at its own pace and size; the origin has sent it once."""
    body = text_of(20000)
    origin.resources[path] = Resource(body, max_age=600)
    for i in range(20):
        assert Client(net).download("/u512" + path, szx=2 + i % 5)[0] == body
    assert origin.count() == -(-20000 // 512)


def test_blocks_of_what_the_gateway_holds(client):
    got, answers = client.download("/static")
    assert got == b"static " * 500 and len(answers) == 4
    assert answers[0].option(wire.ETAG) and answers[0].uint(wire.SIZE2) == 3500
    assert client.download("/static", szx=3)[0] == got
    links, answers = client.download("/.well-known/core", szx=2)
    assert b"</static>" in links and len(answers) == -(-len(links) // 64)


@pytest.mark.core
def test_body_of_the_origin_that_is_too_long(origin, client, path):
    """Beyond limits.body: 5.02, whether the origin tells the size or not."""
    origin.resources[path] = Resource(text_of(70000))
    assert client.get("/u1024" + path).code_text == "5.02"
    assert origin.count() < 70


def test_origin_that_changes_its_mind(origin, client, path):
    """The representation at the origin changes under the gateway's hands: it starts again."""
    old, new = text_of(5000, seed=1), text_of(4000, seed=2)
    origin.resources[path] = Resource(old, etag=b"old")

    def swap(message):
        if message.block(wire.BLOCK2) and message.block(wire.BLOCK2)[0] == 2:
            origin.resources[path] = Resource(new, etag=b"new")
    origin.answer = swap
    answer = client.get("/u1024" + path)
    assert answer.code_text in ("2.05", "5.02"), answer
    if answer.code_text == "2.05":
        assert client.download("/u1024" + path, first=answer)[0] == new


def test_origin_with_smaller_blocks(net, client, path):
    """It sends blocks of 128 bytes where the gateway would take 1,024."""
    body = text_of(3000)
    with Origin(net, HOST4, 5701, {path: Resource(body)}, szx=3) as origin:
        assert client.download("/u1024" + path)[0] == body
        assert origin.count() == -(-3000 // 128)


# Uploads.

@pytest.mark.core
@pytest.mark.parametrize("listener, upstream", [(1024, 64), (64, 1024), (256, 256)])
def test_each_leg_has_its_own_blocks_up(net, origin, listener, upstream, path):
    body = text_of(5000)
    client = Client(net, port=PORTS[listener])
    answers = client.upload(wire.PUT, f"/u{upstream}{path}", body, 6,
                            [(wire.CONTENT_FORMAT, b"\x2a")])
    assert answers[-1].code_text == "2.01", answers[-1]
    assert {a.code_text for a in answers[:-1]} == {"2.31"}
    assert answers[-1].block(wire.BLOCK1)[1] == 0
    # The server may ask for smaller blocks, but never for larger ones.
    assert answers[1].block(wire.BLOCK1)[2] == szx_of(listener)
    assert origin.bodies == [(wire.PUT, path, body)]
    last = (5000 - 1) // upstream
    assert [m.block(wire.BLOCK1) for m in origin.requests] == [
        (i, i < last, szx_of(upstream)) for i in range(last + 1)]
    tags = {m.option(wire.REQUEST_TAG) for m in origin.requests}
    assert len(tags) == 1 and None not in tags
    assert {m.option(wire.CONTENT_FORMAT) for m in origin.requests} == {b"\x2a"}
    assert origin.requests[0].uint(wire.SIZE1) in (None, 5000)


@pytest.mark.parametrize("length", [1, 1024, 1025, 2048, 65536])
def test_upload_at_the_edge_of_a_block(origin, client, path, length):
    body = text_of(length)
    assert client.upload(wire.POST, "/u1024" + path, body, 6)[-1].code_text == "2.01"
    assert origin.bodies == [(wire.POST, path, body)]


def test_origin_that_wants_smaller_blocks(net, client, path):
    """RFC 7959 2.3: its first 2.31 names a smaller size, and the rest comes in that."""
    body = text_of(3000)
    with Origin(net, HOST4, 5701, szx=3) as origin:
        assert client.upload(wire.PUT, "/u1024" + path, body, 6)[-1].code_text == "2.01"
        assert origin.bodies == [(wire.PUT, path, body)]
        assert {m.block(wire.BLOCK1)[2] for m in origin.requests[1:]} == {3}


@pytest.mark.core
def test_gaps(origin, client, path):
    """A block that does not follow is 4.08, and nothing reaches the origin."""
    def put(num, more, payload=bytes(64)):
        return client.ask(wire.PUT, "/u64" + path, payload,
                          options=[(wire.BLOCK1, wire.block(num, more, 2))]).code_text
    assert put(1, 1) == "4.08", "no block 0 has been"
    assert put(0, 1) == "2.31"
    assert put(2, 1) == "4.08", "one is left out"
    assert put(0, 1) == "2.31"
    assert put(1, 1) == "2.31"
    assert put(3, 0) == "4.08"
    assert origin.requests == []
    assert put(0, 1) == "2.31"
    assert put(1, 0, b"end") == "2.01"
    assert origin.bodies == [(wire.PUT, path, bytes(64) + b"end")]


def test_malformed_blocks(origin, client, path):
    """A block that is not the last is as long as it says; SZX 7 is reserved over UDP."""
    for length, szx in ((1024, 7), (50, 2), (65, 2)):
        answer = client.ask(wire.PUT, "/u64" + path, bytes(length),
                            options=[(wire.BLOCK1, wire.block(0, 1, szx))])
        assert answer.code_text == "4.00", answer
    assert origin.requests == []


@pytest.mark.core
def test_upload_beyond_the_limit(origin, client, path):
    """4.13 with the size that would do: at once where Size1 tells it, and when it is passed."""
    answer = client.upload(wire.PUT, "/u1024" + path, text_of(70000), 6)[-1]
    assert (answer.code_text, answer.uint(wire.SIZE1)) == ("4.13", 65536)
    answers = client.upload(wire.PUT, "/u1024" + path, text_of(70000), 6, size1=False)
    assert (answers[-1].code_text, answers[-1].uint(wire.SIZE1)) == ("4.13", 65536)
    assert len(answers) == 65
    assert origin.requests == []
    assert client.upload(wire.PUT, "/u1024" + path, text_of(65536), 6)[-1].code_text == "2.01"


def put_block(client, path, body, num, szx=2, tag=None, **arguments):
    size = block_bytes(szx)
    more = (num + 1) * size < len(body)
    options = [(wire.BLOCK1, wire.block(num, more, szx))]
    if tag is not None:
        options.append((wire.REQUEST_TAG, tag))
    part = body[num * size:(num + 1) * size]
    return client.ask(wire.PUT, path, part, options=options, **arguments)


@pytest.mark.core
def test_uploads_at_the_same_time(net, origin, path):
    """Told apart by client, path, options and Request-Tag, whatever the order of their blocks."""
    one, other = Client(net), Client(net)
    uploads = [(one, "/a", b"1"), (one, "/a", b"2"), (one, "/a", None), (one, "/a", b""),
               (one, "/b", b"1"), (other, "/a", b"1"), (other, "/a", None)]
    bodies = [text_of(300, seed=i) for i in range(len(uploads))]
    for num in range(5):
        for (client, where, tag), body in zip(uploads, bodies):
            answer = put_block(client, f"/u1024{path}{where}", body, num, tag=tag)
            done = answer.code_text in ("2.01", "2.04")
            assert done if num == 4 else answer.code_text == "2.31", (num, where, tag, answer)
    assert sorted(b for _, _, b in origin.bodies) == sorted(bodies)
    assert all(wire.REQUEST_TAG not in [n for n, _ in m.options] for m in origin.requests)


@pytest.mark.core
def test_last_block_runs_once(net, origin, client, path):
    """The same message again gets the same answer; the origin has one body."""
    body = text_of(128)
    assert put_block(client, "/u64" + path, body, 0).code_text == "2.31"
    last = wire.request(wire.PUT, "/u64" + path, body[64:],
                        options=[(wire.BLOCK1, wire.block(1, 0, 2))])
    first = client.exchange(last)
    assert client.exchange(last) == first and first.code_text == "2.01"
    assert origin.bodies == [(wire.PUT, path, body)]


def test_block_that_comes_twice(origin, client, path):
    """As a new message: the gateway has it already and says so, or wants a new start."""
    body = text_of(192)
    assert put_block(client, "/u1024" + path, body, 0).code_text == "2.31"
    assert put_block(client, "/u1024" + path, body, 1).code_text == "2.31"
    again = put_block(client, "/u1024" + path, body, 1).code_text
    assert again in ("2.31", "4.08")
    if again == "2.31":
        assert put_block(client, "/u1024" + path, body, 2).code_text == "2.01"
        assert origin.bodies == [(wire.PUT, path, body)]


def test_upload_starts_anew(origin, client, path):
    """Block 0 again means: forget what was before."""
    old, new = text_of(192, seed=1), text_of(192, seed=2)
    put_block(client, "/u1024" + path, old, 0)
    put_block(client, "/u1024" + path, old, 1)
    for num in range(3):
        answer = put_block(client, "/u1024" + path, new, num)
    assert answer.code_text == "2.01" and origin.bodies == [(wire.PUT, path, new)]


@pytest.mark.core
def test_long_question_and_long_answer(origin, client, path):
    """FETCH with Block1 up, and Block2 down; both are assembled, again and again."""
    question, body = text_of(3000, seed=1), text_of(4000, seed=2)
    origin.resources[path] = Resource(body, max_age=600)
    for _ in range(2):
        first = client.upload(wire.FETCH, "/u256" + path, question, 4)[-1]
        assert first.code_text == "2.05", first
        got, answers = client.download("/u256" + path, method=wire.FETCH, first=first)
        assert got == body and len({a.option(wire.ETAG) for a in answers}) == 1
    assert set(origin.bodies) == {(wire.FETCH, path, question)}


def test_error_of_the_origin_ends_the_upload(origin, client, path):
    """It refuses the first block already: the client gets that, and no second block goes there."""
    origin.answer = lambda m: piggybacked(m, "4.03", [], b"not you")
    answer = client.upload(wire.PUT, "/u64" + path, text_of(1000), 2)[-1]
    assert (answer.code_text, answer.payload) == ("4.03", b"not you")
    assert origin.count() == 1


def test_long_answer_to_a_post(origin, client, path):
    """Block 0 comes with the answer; the rest without a second execution."""
    body = text_of(3000)

    def rest(message):
        if message.code != wire.POST:
            return None
        num = message.block(wire.BLOCK2)[0] if message.option(wire.BLOCK2) else 0
        if num == 0:
            origin.bodies.append((wire.POST, path, message.payload))
        part = body[num * 1024:(num + 1) * 1024]
        return piggybacked(message, "2.04", [(wire.BLOCK2, wire.block(num, num < 2, 6))], part)
    origin.answer = rest
    first = client.ask(wire.POST, "/u1024" + path, b"do")
    assert first.code_text == "2.04" and first.payload == body[:1024], first
    got, num = first.payload, 0
    while first.block(wire.BLOCK2)[1]:
        num += 1
        first = client.ask(wire.POST, "/u1024" + path,
                           options=[(wire.BLOCK2, wire.block(num, 0, 6))])
        assert first.code_text == "2.04", first
        got += first.payload
    assert got == body
    assert origin.bodies == [(wire.POST, path, b"do")]


# What is not finished goes away.

@pytest.mark.core
def test_unfinished_upload_is_forgotten(rig):
    one = rig(small(transfer_idle="1s") + TEXT)
    client = Client(one.hosts.namespace)
    body = text_of(192)
    with Origin(one.hosts.namespace, HOST4, 5701) as origin:
        assert put_block(client, "/u64/x", body, 0).code_text == "2.31"
        time.sleep(3)
        assert put_block(client, "/u64/x", body, 1).code_text == "4.08"
        assert origin.requests == []


def test_nothing_is_left_of_many_that_gave_up(rig):
    """Memory for eight bodies; hundreds are begun and given up, and the next one still has room."""
    one = rig(small(transfer_idle="1s", body="64KiB", assembly_memory="512KiB") + TEXT)
    body = text_of(65536)
    with Origin(one.hosts.namespace, HOST4, 5701, {"/down": Resource(body, max_age=0)}) as origin:
        for i in range(60):
            client = Client(one.hosts.namespace)
            put_block(client, f"/u1024/{i}", body, 0, szx=6)
            client.get("/u1024/down")
        client = Client(one.hosts.namespace)
        wait_until("there is room again", timeout=30, interval=0.5, condition=lambda: client.upload(
            wire.PUT, "/u1024/end", body, 6)[-1].code_text in ("2.01", "2.04"))
        assert client.download("/u1024/down")[0] == body
