"""A study's trials as jobs of a cluster, one a trial, that outlive the command that submitted them."""
