"""Read datasets: one module per format. A file that cannot be used is an error with its line."""
