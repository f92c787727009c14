"""MQTT 5: a source that acknowledges after a checkpoint, and a sink that waits for acknowledgements (extra `mqtt`)."""

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.mqtt.broker import Broker
from streamcore.connectors.mqtt.sink import MqttSink
from streamcore.connectors.mqtt.source import MqttMessage, MqttSource

__all__ = ["Backoff", "Broker", "MqttMessage", "MqttSink", "MqttSource"]
