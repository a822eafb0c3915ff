"""From files to batches: manifest, decode, cache, augment."""
