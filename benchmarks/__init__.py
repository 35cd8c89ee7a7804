"""Programs that measure and compare; README.md says how to run them."""
