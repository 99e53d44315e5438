"""What commands print: results to stdout, everything else to stderr."""
