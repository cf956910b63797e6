"""Data sets: tables of labels, image-heatmap pairs, and mannequins drawn on demand."""
