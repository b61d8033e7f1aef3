"""Models of jobs that need no torch: a command line, or a form, asks them for their fields without loading it."""
