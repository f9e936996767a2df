"""Pay out expenses: a claim is checked, approved, paid by a bank and booked. The workflow is in `workflows.py`."""
