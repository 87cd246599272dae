"""Recipes shipped with the package, one TOML file each; they hold no path."""
