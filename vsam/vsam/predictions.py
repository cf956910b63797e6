"""What is said about a photo. Nothing of torch."""

TOP_CATEGORIES = 5
"""Categories that are listed unless all are wanted."""
