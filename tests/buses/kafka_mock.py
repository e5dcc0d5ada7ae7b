"""The mock cluster inside the client library: several brokers, leaders that move, errors on request.

It answers publishing, taking and looking at offsets. It makes no topics and has no settings, so a whole bus cannot
run on it; what publishes and what takes can.
"""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

PRODUCE, FETCH = 0, 1
NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, TOPIC_AUTHORIZATION_FAILED = 6, 7, 19, 29


class MockCluster:
    """As many brokers on loopback as asked for."""

    def __init__(self, brokers: int) -> None:
        self._library = _library()
        reason = ctypes.create_string_buffer(512)
        client = self._call("rd_kafka_new", 0, self._settings(), reason, ctypes.c_size_t(512), gives=ctypes.c_void_p)
        assert client, reason.value
        self._client = ctypes.c_void_p(client)
        cluster = self._call("rd_kafka_mock_cluster_new", self._client, brokers, gives=ctypes.c_void_p)
        self._cluster = ctypes.c_void_p(cluster)
        found = self._call("rd_kafka_mock_cluster_bootstraps", self._cluster, gives=ctypes.c_char_p)
        self.servers: str = found.decode()

    def _settings(self) -> ctypes.c_void_p:
        """Without a word about having no broker to talk to."""
        settings = ctypes.c_void_p(self._call("rd_kafka_conf_new", gives=ctypes.c_void_p))
        self._call("rd_kafka_conf_set", settings, b"log_level", b"0", None, ctypes.c_size_t(0))
        return settings

    def make(self, topic: str, partitions: int) -> None:
        assert not self._call("rd_kafka_mock_topic_create", self._cluster, topic.encode(), partitions, 3)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        assert not self._call(
            "rd_kafka_mock_partition_set_leader", self._cluster, topic.encode(), partition, ctypes.c_int32(broker)
        )

    def trim(self, topic: str, partition: int, before: int) -> None:
        """What stands before this offset is deleted."""
        assert not self._call(
            "rd_kafka_mock_partition_delete_records",
            self._cluster,
            topic.encode(),
            ctypes.c_int32(partition),
            ctypes.c_int64(before),
        )

    def fail(self, request: int, *errors: int) -> None:
        """The next requests of a kind get these errors."""
        numbers = [ctypes.c_int(error) for error in errors]
        self._call(
            "rd_kafka_mock_push_request_errors",
            self._cluster,
            ctypes.c_int16(request),
            ctypes.c_size_t(len(errors)),
            *numbers,
        )

    def down(self, broker: int) -> None:
        self._call("rd_kafka_mock_broker_set_down", self._cluster, ctypes.c_int32(broker))

    def up(self, broker: int) -> None:
        self._call("rd_kafka_mock_broker_set_up", self._cluster, ctypes.c_int32(broker))

    def close(self) -> None:
        self._call("rd_kafka_mock_cluster_destroy", self._cluster, gives=None)
        self._call("rd_kafka_destroy", self._client, gives=None)

    def _call(self, name: str, *arguments: Any, gives: Any = ctypes.c_int) -> Any:
        function = getattr(self._library, name)
        function.restype = gives
        return function(*arguments)


def _library() -> ctypes.CDLL:
    """The library that the Python client has loaded.

    Raises:
        ImportError: where it is not beside it, as in builds that use the system's.
    """
    home = Path(confluent_kafka.__file__).parent.parent
    for file in sorted(home.glob("confluent_kafka.libs/librdkafka*")):
        return ctypes.CDLL(str(file))
    raise ImportError("this build of confluent-kafka does not bring its C library")
