"""Networks where others use them: the private page, the scoring of files, the server that scores what is sent."""
