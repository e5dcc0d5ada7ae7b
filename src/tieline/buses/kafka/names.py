"""Channels as topics: the name of a topic is readable, and tells which channel it is.

What Kafka does not take is written as a hyphen and two hex digits a byte. So is the underscore, for Kafka holds
a dot and an underscore to be the same. A channel that was forgotten and declared again has another topic, whose
name ends with two hyphens and a number: nothing can take the one for the other.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from tieline.errors import ConfigurationError, Mistake

_LONGEST: Final = 249  # Kafka's own limit


def topic_of(prefix: str, channel: str, life: int = 1) -> str:
    """The topic of a channel in its n-th life.

    Raises:
        ConfigurationError: where the name is longer than Kafka takes.
    """
    name = re.sub(rb"[^A-Za-z0-9.]", lambda found: b"-%02X" % found[0][0], channel.encode()).decode()
    topic = f"{prefix}.{name}" + (f"--{life}" if life > 1 else "")
    if len(topic) > _LONGEST:
        what = f"makes a topic of {len(topic)} letters, and Kafka takes {_LONGEST}"
        raise ConfigurationError(Mistake(f"channel {channel}", what, "give system, source or prefix a shorter name"))
    return topic


def channel_of(prefix: str, topic: str) -> str:
    """The channel whose topic this is."""
    name = topic.removeprefix(f"{prefix}.").partition("--")[0]
    return unquote_to_bytes(name.replace("-", "%")).decode()


def register_of(prefix: str) -> str:
    """The topic in which it is kept how far each subscription is."""
    return f"{prefix}--subscriptions"
