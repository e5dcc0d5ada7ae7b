"""What an address of a Kafka cluster may say, and how channels become topics."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.bus import Guarantee
from tieline.buses.kafka import open_bus
from tieline.buses.kafka.address import read_address
from tieline.buses.kafka.names import channel_of, register_of, topic_of
from tieline.errors import ConfigurationError

SECRET = "s3cr3t-of-the-bus"
CHANNELS = st.text(max_size=20).filter(lambda text: text.isprintable())


@given(CHANNELS, st.integers(1, 99))
def test_a_topic_is_valid_and_tells_its_channel(channel, life):
    topic = topic_of("acme-2", channel, life)
    assert re.fullmatch(r"[A-Za-z0-9.-]+", topic)  # an underscore would be the same as a dot to Kafka
    assert channel_of("acme-2", topic) == channel
    assert topic != register_of("acme-2")


@given(st.lists(st.tuples(CHANNELS, st.integers(1, 3)), unique=True))
def test_no_two_channels_have_one_topic(lives):
    assert len({topic_of("acme", *life) for life in lives}) == len(lives)


def test_a_topic_is_readable():
    assert topic_of("acme", "main:shop.order/4") == "acme.main-3Ashop.order-2F4"
    assert topic_of("acme", "shop.order/out", 2) == "acme.shop.order-2Fout--2"


def test_a_channel_too_long_for_kafka_is_named():
    with pytest.raises(ConfigurationError, match="Kafka takes 249 → give"):
        topic_of("acme", "x" * 250)


@pytest.mark.parametrize(
    ("query", "guarantee"),
    [
        ("", Guarantee.WRITTEN),
        ("?replicas=2", Guarantee.WRITTEN),
        ("?replicas=3", Guarantee.REPLICATED),
        ("?replicas=5", Guarantee.REPLICATED),
    ],
)
def test_only_three_copies_are_safer_than_one_disk(query, guarantee):
    """A broker acknowledges before its disk has it; how more is had, is said."""
    facts = open_bus(f"kafka://h{query}", Path()).capabilities
    assert facts.guarantee is guarantee
    assert "replicas=3" in facts.stronger


def test_an_address_is_read_whole(tmp_path):
    (tmp_path / "ca.pem").write_text("")
    url = "kafka://tie%40line:p%3Aw@one,two:9093/acme?replicas=3&timeout=5&mechanism=plain&ca=ca.pem"
    found = read_address(url, tmp_path)
    assert (found.servers, found.prefix, found.replicas, found.timeout) == ("one:9092,two:9093", "acme", 3, 5)
    assert found.in_sync == 2
    assert found.client == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "tie@line",
        "sasl.password": "p:w",
        "ssl.ca.location": str(tmp_path / "ca.pem"),
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://", "names no broker → write kafka://host:9092"),
        ("kafka://a,,b", "names no broker"),
        ("kafka://h:port", "names no broker"),
        ("kafka://h/a b", "cannot begin the names of topics"),
        ("kafka://h/a--b", "cannot begin the names of topics"),
        ("kafka://h?replica=3", "has no option 'replica' → use one of: replicas"),
        ("kafka://h?replicas=0", "replicas is '0' → write a whole number from 1 on"),
        ("kafka://h?replicas=many", "replicas is 'many'"),
        ("kafka://h?security=none", "security is 'none' → use one of: plaintext, ssl"),
        ("kafka://h?security=sasl_ssl", "without user and password → write kafka://user:"),
        (f"kafka://u:{SECRET}@h?mechanism=MD5", "mechanism is 'MD5'"),
        (f"kafka://u:{SECRET}@h?security=ssl", "has a user, whom ssl does not ask for"),
        (f"kafka://u:{SECRET}@h?ca=gone.pem&key_password={SECRET}", "there is no file gone.pem"),
    ],
)
def test_a_mistake_in_an_address_is_named_with_its_remedy(url, said):
    with pytest.raises(ConfigurationError, match=re.escape(said)) as raised:
        read_address(url, Path())
    assert SECRET not in str(raised.value)


def test_an_address_does_not_show_its_secrets():
    address = read_address(f"kafka://u:{SECRET}@h?security=sasl_ssl&key_password={SECRET}", Path())
    assert SECRET not in f"{address!r} {address.shown}"
    assert SECRET in address.client.values()
