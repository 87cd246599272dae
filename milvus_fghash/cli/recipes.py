"""`milvus-fghash recipes`: what the package knows how to train."""

from __future__ import annotations

import click

from milvus_fghash.cli.options import json_option
from milvus_fghash.cli.output import show_json, show_table


@click.command()
@click.argument("name", required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List the shipped recipes, or print one as TOML.

    \b
    Example: milvus-fghash recipes frozen-fcaenet > mine.toml
    """
    from milvus_fghash.config import load_recipe, recipe_names, recipe_text

    if name is None:
        rows = []
        for known in recipe_names():
            recipe = load_recipe(known)
            rows.append({
                "name": known,
                "method": recipe.method.name,
                "trunk": recipe.trunk.name,
                "description": recipe.description,
            })  # fmt: skip
        if as_json:
            show_json(rows)
        else:
            show_table(rows)
    elif as_json:
        show_json(load_recipe(name).model_dump(mode="json"))
    else:
        text, _place = recipe_text(name)
        click.echo(text, nl=False)
