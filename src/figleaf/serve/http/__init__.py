"""A server that scores what is sent to it over HTTP: bounded in bytes, pictures, pixels, time and memory."""
