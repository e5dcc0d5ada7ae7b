"""What the client library says, as errors that say what happens next."""

import threading
from typing import Final

from confluent_kafka import KafkaError

from tieline.buses.kafka.address import Address
from tieline.errors import AccessRefused, ConfigurationError, LedgerUnavailable, Mistake, TielineError

_REFUSED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_WRONG: Final = {
    KafkaError.INVALID_REPLICATION_FACTOR: "set replicas in the address to no more than there are brokers",
    KafkaError.INVALID_PARTITIONS: "choose other partitions for the flow",
    KafkaError.INVALID_CONFIG: "let the cluster take the topic settings that the error names",
    KafkaError.POLICY_VIOLATION: "let the cluster's policy take the topic settings that the error names",
    KafkaError.TOPIC_EXCEPTION: "choose another prefix in the address",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise max.message.bytes of the topic, or restart to learn a limit that fell",
    KafkaError.RECORD_LIST_TOO_LARGE: "raise max.message.bytes of the topic to at least its segment's size",
}
GONE: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
LEADERLESS: Final = frozenset({KafkaError._NOENT, KafkaError.LEADER_NOT_AVAILABLE})
"""A partition has no leader: it is being made, its broker is away, or it is no longer there."""


class Gone(Exception):
    """A topic is not there."""


class Failures:
    """Names what goes wrong on one cluster. Thread-safe.

    The library goes on trying whatever happens, and tells only that it has no answer yet. Why that is so it
    tells by the way, so the last thing heard of each kind is remembered until something is answered.
    """

    def __init__(self, address: Address) -> None:
        self._where = f"Kafka at {address.servers}"
        self._lock = threading.Lock()
        self._refused: KafkaError | None = None

    def heard(self, error: KafkaError) -> None:
        """The library's `error_cb`."""
        if error.code() in _REFUSED:
            with self._lock:
                self._refused = error

    def answered(self) -> None:
        """The cluster has done what was asked: what was heard before is over."""
        with self._lock:
            self._refused = None

    def named(self, error: KafkaError, what: str) -> TielineError:
        """The error to raise; `what` is the topic that it happened with."""
        with self._lock:
            told = self._refused
        cause = error if told is None or error.code() in {*_REFUSED, *_WRONG} else told
        said = f"{cause.str()} ({cause.name()})"
        if cause.code() in _REFUSED:
            return AccessRefused(f"{self._where} refuses us, at {what}: {said}")
        if cause.code() in _WRONG:
            return ConfigurationError(Mistake(f"{self._where}, {what}", said, _WRONG[cause.code()]))
        return LedgerUnavailable(f"{self._where} does not answer as it should, at {what}: {said}")

    def silent(self, what: str, seconds: float) -> TielineError:
        """The error to raise where nothing was said for so long."""
        with self._lock:
            told = self._refused
        if told is not None:
            return self.named(told, what)
        return LedgerUnavailable(f"{self._where} has not answered for {seconds:g} s, at {what}")
