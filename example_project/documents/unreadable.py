class UnreadableDocument(Exception):
    """A document has no text to give, however often it is tried; the message says why: "it is encrypted"."""
