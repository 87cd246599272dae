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

    A recipe's name is SETTING-METHOD: each setting can be had with each method.

    \b
    Example: milvus-fghash recipes frozen-fcaenet > mine.toml
    """
    import tomli_w

    from milvus_fghash.recipe_book import comments, load_recipe, recipe_names

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
        return
    values = load_recipe(name).model_dump(mode="json")
    if as_json:
        show_json(values)
    else:
        head = comments(name) if name in recipe_names() else ""
        values["by_bits"] = {str(bits): table for bits, table in values["by_bits"].items()}
        click.echo(head + tomli_w.dumps(values), nl=False)
