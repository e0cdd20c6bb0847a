"""Texts from a language model behind an HTTP server: requests, a store of answers, a client, batch files."""
