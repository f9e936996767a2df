"""Whether tables stay bounded under a constant load, while what is old is deleted."""
