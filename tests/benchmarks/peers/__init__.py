"""Adapters: each runs one system in a process of its own and tells what it measured as JSON lines."""
