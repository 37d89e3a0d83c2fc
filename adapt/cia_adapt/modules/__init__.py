"""The parts a method is composed of, one idea a file."""
