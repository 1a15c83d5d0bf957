"""MLflow in a real PostgreSQL, with and without a server between."""
