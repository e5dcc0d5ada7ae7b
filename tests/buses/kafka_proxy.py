"""Stands between clients and a broker: cuts them off, and answers for the broker what Tansu cannot do yet.

Tansu in memory has no DeleteRecords. Here it is written down and answered as Kafka answers it; the records stay.
"""

import contextlib
import socket
import struct
import threading

PRODUCE = 0
DELETE_RECORDS = 21


class Proxy:
    """A door to a broker that can be shut. `deleted` is what clients asked to delete: topic, partition, before.

    While `lets_produce` is cleared, what is published does not reach the broker, and all else does.
    """

    def __init__(self, broker_port: int) -> None:
        self.deleted: list[tuple[str, int, int]] = []
        self.lets_produce = threading.Event()
        self.lets_produce.set()
        self._broker_port = broker_port
        self._door: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def begin(self) -> None:
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._let_in, args=[self._door], daemon=True).start()

    def cut(self) -> None:
        """Nobody comes in any more, and whoever is in is thrown out."""
        if self._door is not None:
            with contextlib.suppress(OSError):
                self._door.shutdown(socket.SHUT_RDWR)
            self._door.close()
            self._door = None
        with self._lock:
            thrown, self._open = self._open, set()
        for one in thrown:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _let_in(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, broker}
            for way in (self._ask, self._answer):
                threading.Thread(target=self._pass, args=[way, client, broker], daemon=True).start()

    def _pass(self, way, client, broker) -> None:
        with contextlib.suppress(OSError):
            while way(client, broker):
                pass
        for one in (client, broker):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if way == self._answer:
            client.close()
            broker.close()

    def _ask(self, client: socket.socket, broker: socket.socket) -> bool:
        frame = _frame(client)
        kind = struct.unpack_from(">h", frame)[0] if frame else None
        if kind == PRODUCE:
            self.lets_produce.wait(30)
        if kind == DELETE_RECORDS:
            client.sendall(_framed(self._note(frame)))
        elif frame:
            broker.sendall(_framed(frame))
        return bool(frame)

    def _answer(self, client: socket.socket, broker: socket.socket) -> bool:
        frame = _frame(broker)
        if frame:
            client.sendall(_framed(frame))
        return bool(frame)

    def _note(self, request: bytes) -> bytes:
        """The answer to DeleteRecords, version 2: everything is deleted as asked."""
        _, version, correlation, length = struct.unpack_from(">hhih", request)
        assert version == 2, version
        at = 10 + max(0, length) + 1  # a byte says that there are no tags, here and behind each part
        topics = request[at]  # one more than there are, as all lengths here
        answer = struct.pack(">ibib", correlation, 0, 0, topics)
        at += 1
        for _ in range(topics - 1):
            name = request[at + 1 : at + request[at]]
            at += request[at]
            partitions = request[at]
            at += 1
            answer += bytes([len(name) + 1]) + name + bytes([partitions])
            for _ in range(partitions - 1):
                partition, offset = struct.unpack_from(">iq", request, at)
                at, answer = at + 13, answer + struct.pack(">iqhb", partition, offset, 0, 0)
                self.deleted.append((name.decode(), partition, offset))
            at, answer = at + 1, answer + b"\0"
        return answer + b"\0"


def _frame(end: socket.socket) -> bytes:
    head = _exactly(end, 4)
    return _exactly(end, struct.unpack(">i", head)[0]) if head else b""


def _framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def _exactly(end: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = end.recv(count - len(found))
        if not part:
            return b""
        found += part
    return bytes(found)
