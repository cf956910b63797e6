"""VSAM: fashion photos to a category, attributes and an attention map. Needs no mediapipe."""
