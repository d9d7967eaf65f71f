"""Published data sets, each with its layout, classes and split files."""
