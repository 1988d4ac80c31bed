"""The jobs of the platform's life, against a real MLflow server."""
