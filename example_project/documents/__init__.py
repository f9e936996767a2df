"""Analyse documents: which language they are in, how hard they are to read, what they are about."""
