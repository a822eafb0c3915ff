"""One module a command of the command line: it reads the arguments, calls the rooms and prints."""
