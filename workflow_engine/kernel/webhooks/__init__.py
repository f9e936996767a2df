"""Webhooks: what may be an address, what is sent to it, and what follows from the answer."""
