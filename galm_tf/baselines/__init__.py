"""Other attribute learners, for comparison. Nothing in the core imports them."""
