"""The demonstration: the whole path on drawn mannequins, with a report."""
