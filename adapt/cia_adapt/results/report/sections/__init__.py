"""The sections of the page, in its order: a function each, from a study to a section, or None where there is nothing to show."""
