"""What MLflow runs when it serves a registered model. A copy of this, with all it needs, goes into each version."""
