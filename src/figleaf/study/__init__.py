"""A study: arms and seeds in, a table and figures out."""
