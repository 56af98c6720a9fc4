"""Suites and tables that measure the program against its rivals. Nothing in the core imports them."""
