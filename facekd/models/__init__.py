"""Models by name: students, Transformer teachers, and the bundles that hold them."""
