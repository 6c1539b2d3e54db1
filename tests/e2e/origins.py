"""A CoAP origin in a thread: answers each request at once with a payload that names the origin."""

import socket
import threading

import wire


class TinyOrigin:
    """Counts the requests it gets. `answer(message)` may change what is sent, or be None for silence."""

    def __init__(self, namespace, address, port, answer=None):
        self.name = f"{address}:{port}"
        self.requests = []
        self._answer = answer or self._piggyback
        self._socket = namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _piggyback(self, message):
        return wire.Message(wire.ACK if message.type == wire.CON else wire.NON, wire.code("2.05"),
                            message.mid, message.token, [], self.name.encode())

    def _serve(self):
        while not self._ended.is_set():
            try:
                data, peer = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            except ConnectionError:
                continue
            message = wire.decode(data)
            if message.code == wire.EMPTY:
                continue
            self.requests.append(message)
            answer = self._answer(message)
            if answer is not None:
                self._socket.sendto(answer.encode(), peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self._socket.close()
