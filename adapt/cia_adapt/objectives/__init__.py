"""Losses that align the domains, one a file. None of them is given a target label."""
