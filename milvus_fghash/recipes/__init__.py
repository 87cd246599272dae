"""Recipes shipped with the package: methods and settings, one TOML file each; `recipe_book` joins them. No paths."""
