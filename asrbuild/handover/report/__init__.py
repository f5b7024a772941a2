"""The pages a person reads: one for an artifact (``page``), one for a sweep (``sweep``)."""
