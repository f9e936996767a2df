"""Webhooks: events on their way to addresses of others."""
