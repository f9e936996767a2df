"""Adapters of the ``JobTransport`` port."""
