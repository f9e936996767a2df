"""Import what has been delivered to a bookshop: every row of a file, and a list per shelf. See `workflows.py`."""
