"""A study's search: a sampler proposes settings from a space, trials are trained, hopeless ones are given up."""
