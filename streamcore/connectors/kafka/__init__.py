"""Apache Kafka as a source and a sink of streams."""

from streamcore.connectors.kafka.avro import Avro
from streamcore.connectors.kafka.dead_letters import dead_letters
from streamcore.connectors.kafka.formats import Decoded, Format, Messages, Raw
from streamcore.connectors.kafka.json_format import Json
from streamcore.connectors.kafka.message import BadMessage, KafkaMessage
from streamcore.connectors.kafka.positions import Timestamp
from streamcore.connectors.kafka.protobuf import Protobuf
from streamcore.connectors.kafka.security import Brokers, Security
from streamcore.connectors.kafka.sink import KafkaSink
from streamcore.connectors.kafka.source import KafkaSource
from streamcore.connectors.kafka.url import KafkaUrl, parse_url

__all__ = [
    "Avro",
    "BadMessage",
    "Brokers",
    "Decoded",
    "Format",
    "Json",
    "KafkaMessage",
    "KafkaSink",
    "KafkaSource",
    "KafkaUrl",
    "Messages",
    "Protobuf",
    "Raw",
    "Security",
    "Timestamp",
    "dead_letters",
    "parse_url",
]
