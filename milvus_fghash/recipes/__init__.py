"""Recipes shipped with the package: methods and settings, one TOML file each; `recipes.loader` joins them. No paths."""
