"""The table of estimators, docs/estimators.md: `python -m tests.estimator_table` writes it, a unit test compares it."""
