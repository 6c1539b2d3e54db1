"""A gateway's admin endpoint, asked from within its network namespace."""

import http.client
import json
import re
import socket


class Admin:
    def __init__(self, namespace, address="127.0.0.1", port=9683):
        self.namespace, self.address, self.port = namespace, address, port

    def connect(self, timeout=20):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with self.namespace.entered():
            sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect((self.address, self.port))
        return sock

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, text)."""
        connection = http.client.HTTPConnection(self.address, self.port)
        connection.sock = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def raw(self, request):
        """Bytes as they are; what comes back until the gateway closes."""
        with self.connect() as sock:
            sock.sendall(request)
            answer = b""
            while got := sock.recv(65536):
                answer += got
        return answer

    def get(self, path):
        status, headers, text = self.ask("GET", path)
        assert status == 200, (path, status, text)
        assert headers["Content-Type"] == "application/json"
        return json.loads(text)

    def all(self, what, parameters="", limit=100):
        """All pages of a list."""
        rows, following = [], ""
        while following is not None:
            page = self.get(f"/{what}?limit={limit}{parameters}"
                            + (f"&from={following}" if following else ""))
            rows += page[what]
            following = page["next"]
        return rows

    def patch(self, session, **parameters):
        """(status, answer)."""
        status, _, text = self.ask("PATCH", f"/sessions/{session}", json.dumps(parameters),
                                   {"Content-Type": "application/json"})
        return status, json.loads(text)

    def packet_loss(self, spec):
        status, _, text = self.ask("PUT", "/debug/packet-loss", spec, {"Content-Type": "text/plain"})
        return status, json.loads(text)

    def metrics(self):
        """({(name, labels): value}, {name: type}), checked against the format as it is read: HELP,
        TYPE, then all samples of that metric together."""
        status, headers, text = self.ask("GET", "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert text.endswith("\n")
        return parse_metrics(text)


LABEL = r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"([a-zA-Z_:][\w:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def parse_metrics(text):
    samples, types, helped, current = {}, {}, set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in helped, f"{current} is described twice"
            assert len(line.split(" ", 3)) == 4, line
            helped.add(current)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and kind in ("counter", "gauge"), line
            assert (kind == "counter") == name.endswith("_total"), line
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match[1], match[2] or "", match[match.lastindex]
            assert name == current and name in types, line
            key = (name, frozenset((k, v) for k, v in re.findall(LABEL, labels)))
            assert key not in samples, f"twice: {line}"
            samples[key] = float(value)
    return samples, types


def value(samples, name, **labels):
    """The sum of the samples of a metric that have these labels."""
    wanted = {(k, str(v)) for k, v in labels.items()}
    found = [v for (n, have), v in samples.items() if n == name and wanted <= have]
    assert found, f"{name} {labels} is not there"
    return sum(found)
