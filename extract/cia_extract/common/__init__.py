"""What every room uses: errors and exit codes, the console, names, files read as data, files written whole."""
