"""Training one run: the Lightning module, the task, its ranks."""
