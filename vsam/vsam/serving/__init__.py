"""VSAM as a gRPC service, and its client. The client needs no torch; see `README.md`."""
