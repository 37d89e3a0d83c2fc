"""A feature file at a glance."""
