"""The networks: modules only. `build_vsam` assembles them."""
