"""The commands: thin Typer apps over the libraries. Nothing heavy is imported before it is used."""
