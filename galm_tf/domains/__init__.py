"""Data sets: every layout gives a `Domain`. `load_domains` finds, reads, splits and joins them."""

from galm_tf.domains.load import expect_data, load_domains

__all__ = ["expect_data", "load_domains"]
