"""The systems that the field began with: skin by colour and texture, regions, limbs. Needs neither Hydra nor MLflow."""
