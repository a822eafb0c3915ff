"""The best checkpoint, in the formats where it is used."""
