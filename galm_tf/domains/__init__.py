"""Data sets: every layout gives a `Domain`. `load_domains` finds, reads, splits and joins them."""

from galm_tf.domains.load import load_domains

__all__ = ["load_domains"]
