"""Consoles, HTML pages and words of messages."""
