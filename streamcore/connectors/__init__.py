"""Connectors: sources and sinks on the interfaces of `streamcore.connectors.base`."""
