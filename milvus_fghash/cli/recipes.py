"""`milvus-fghash recipes`: list and print the built-in recipes."""

from __future__ import annotations

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.terminal.output import show_json, show_table


@click.command()
@click.argument("name", required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print one as TOML.

    A recipe is named SETTING-METHOD. Without NAME the settings and methods are listed, with --json every recipe. NAME
    is a recipe or a setting.

    \b
    Example: milvus-fghash recipes frozen-fcaenet > mine.toml
             milvus-fghash recipes frozen > my-setting.toml
    """
    from milvus_fghash.recipes.loader import setting_names, setting_text

    if name in setting_names():
        if as_json:
            raise click.UsageError(f"{name} is a setting, which has no JSON form; a recipe is named {name}-METHOD")
        click.echo(setting_text(name), nl=False)
    elif name is not None:
        _show_recipe(name, as_json)
    elif as_json:
        show_json(_every_recipe())
    else:
        _list_parts()


def _list_parts() -> None:
    from milvus_fghash.methods import card
    from milvus_fghash.recipes.loader import descriptions

    show_table([{"setting": name, "description": text} for name, text in descriptions("settings").items()])
    click.echo()
    methods = descriptions("methods").items()
    show_table(
        [{"method": name, "needs": card(name).needs, "description": text} for name, text in methods],
        "\nA recipe is named SETTING-METHOD, such as frozen-fcaenet. Methods that need maps do not work with a frozen "
        "backbone.",
    )


def _every_recipe() -> list[dict[str, str]]:
    from milvus_fghash.methods import card
    from milvus_fghash.recipes.loader import load_recipe, method_names, setting_names

    rows = []
    for setting in setting_names():
        for method in method_names():
            recipe = load_recipe(f"{setting}-{method}")
            if recipe.backbone.frozen and card(method).needs == "maps":
                continue  # not compatible
            rows.append({
                "name": f"{setting}-{method}",
                "setting": setting,
                "method": method,
                "backbone": recipe.backbone.name,
                "description": recipe.description,
            })  # fmt: skip
    return rows


def _show_recipe(name: str, as_json: bool) -> None:
    import tomli_w

    from milvus_fghash.methods import check_backbone
    from milvus_fghash.recipes.loader import comments, load_recipe

    recipe = load_recipe(name)
    check_backbone(recipe.method.name, frozen=recipe.backbone.frozen)
    values = recipe.model_dump(mode="json", exclude_none=True)  # TOML has no null
    if as_json:
        show_json(values)
    else:
        values["by_bits"] = {str(bits): table for bits, table in values["by_bits"].items()}
        click.echo(comments(name) + tomli_w.dumps(values), nl=False)
