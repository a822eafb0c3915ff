"""Networks where others use them: the private page that runs one in the browser."""
