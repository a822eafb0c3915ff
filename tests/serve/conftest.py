"""The page that the tests of this room look at."""

from made_page import engine, site  # noqa: F401  # fixtures
