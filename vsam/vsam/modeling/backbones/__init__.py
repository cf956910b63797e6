"""The networks that see the photo, by name and behind one interface. `build_backbone` makes one."""
