"""Recipes by name. A shipped recipe is named SETTING-METHOD, such as frozen-fcaenet, and composed of two files.

`recipes/methods/METHOD.toml` is how the method was trained where it was published; `recipes/settings/SETTING.toml`
holds the backbone and photos, and what differs with them: for all methods, for a family of them (`[family.NAME]`), for
one (`[only.NAME]`). The setting takes precedence, at every code length. A user's recipe is a single TOML file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from milvus_fghash.core.file_models import read_model
from milvus_fghash.core.text_file import parse_toml, read_text
from milvus_fghash.errors import ConfigError, check_not_string, nearest, suggestion
from milvus_fghash.recipes.schema import Recipe, merge, with_current_keys

FOLDER = resources.files("milvus_fghash.recipes")
OVERRIDES = ("family", "only")
"""Tables of a setting that apply to some methods only."""


def method_names() -> list[str]:
    """Methods that have a recipe, sorted."""
    return _names("methods")


def setting_names() -> list[str]:
    """Shipped settings, sorted."""
    return _names("settings")


def recipe_names() -> list[str]:
    """Names of the shipped recipes: every setting with every method.

    Returns:
        Names of the form SETTING-METHOD, sorted by setting.

    Examples:
        >>> import milvus_fghash as fg
        >>> "frozen-posterior-itq" in fg.recipe_names()
        True
    """
    return [f"{setting}-{method}" for setting in setting_names() for method in method_names()]


def recipe_parts(name: str) -> tuple[str, str] | None:
    """Setting and method of a shipped recipe; None when there is no such recipe."""
    for setting in setting_names():
        method = name.removeprefix(f"{setting}-")
        if method != name and method in method_names():
            return setting, method
    return None


def descriptions(kind: Literal["settings", "methods"]) -> dict[str, str]:
    """Name -> description in the shipped file."""
    return {name: _parse(*_shipped(kind, name))["description"] for name in _names(kind)}


def setting_text(name: str) -> str:
    """Text of a shipped setting, to edit and use as a file."""
    return _shipped("settings", name)[0]


def load_recipe(recipe: str | Path | Recipe, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change it.

    Args:
        recipe: a shipped name (see `recipe_names`), a ``.toml`` file, or a recipe that was read before.
        changes: KEY=VALUE each, such as ``training.rounds=3``. A change applies at every code length, also where a
            ``by_bits`` table of the recipe differs.

    Returns:
        The changed recipe.

    Raises:
        ConfigError: when the recipe does not exist, is not valid TOML, or a key or value is wrong.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.load_recipe("frozen-itq", ["training.seed=7"]).training.seed
        7
    """
    check_not_string(changes, "changes")
    if isinstance(recipe, Recipe):
        return _read(recipe.model_dump(exclude_unset=True), changes, "the recipe") if changes else recipe
    name_or_path = str(recipe)
    if Path(name_or_path).suffix == ".toml":
        values = _parse(*_file_text(Path(name_or_path)))
        if "method" not in values or any(table in values for table in OVERRIDES):
            raise ConfigError(
                f"{name_or_path} is a setting, for comparisons: a recipe has a [method] with a name, and neither "
                "[family] nor [only]"
            )
        return _read(values, changes, name_or_path)
    if parts := recipe_parts(name_or_path):
        return compose(*parts, changes)
    hint = suggestion(name_or_path, recipe_names())
    if name_or_path in setting_names():
        hint = f"Did you mean {name_or_path}-posterior-itq? "
    elif name_or_path in method_names():
        hint = f"Did you mean frozen-{name_or_path} or finetune-{name_or_path}? "
    raise ConfigError(
        f"no recipe named {name_or_path!r}. {hint}A recipe is a .toml file, or "
        f"SETTING-METHOD with one of the settings {', '.join(setting_names())} and one of the methods "
        f"{', '.join(method_names())}"
    )


def with_weights(changes: Sequence[str], weights: str | Path | None) -> tuple[str, ...]:
    """Changes of a recipe, with the weights of its backbone unless these are None."""
    # TOML has no surrogate pairs, which ASCII JSON needs.
    more = () if weights is None else (f"backbone.weights={json.dumps(str(weights), ensure_ascii=False)}",)
    return (*check_not_string(changes, "changes"), *more)


def compose(setting: str, method: str, changes: Iterable[str] = ()) -> Recipe:
    """The recipe of one method in one setting.

    Args:
        setting: a shipped setting's name, or a ``.toml`` file of the same form. A complete recipe also works, for its
            own method.
        method: a method's name.
        changes: as in `load_recipe`.

    Raises:
        ConfigError: when the setting or method does not exist, a key or value is wrong, or the file is a recipe of
            another method, whose learning rates do not suit this one.
    """
    _check_method(method)
    if Path(setting).suffix == ".toml":
        place = _file_text(Path(setting))
    elif setting in setting_names():
        place = _shipped("settings", setting)
    elif parts := recipe_parts(setting):
        raise ConfigError(
            f"{setting} is a recipe; expected a setting: give {parts[0]}, with the method {parts[1]}",
            setting="methods method",
        )
    else:
        raise ConfigError(
            f"no setting named {setting!r} (a file must end in .toml). {nearest(setting, setting_names())}"
        )
    base, above = _parse(*_shipped("methods", method)), _parse(*place)
    if isinstance(of := above.get("method"), Mapping) and of.get("name", method) != method:
        raise ConfigError(
            f"{place[1]} is a recipe of {of['name']}, whose learning rates do not suit {method}; give a setting: "
            f"one of {', '.join(setting_names())}, or a .toml file without [method]"
        )
    for table in OVERRIDES:
        if not isinstance(above.get(table, {}), Mapping):
            raise ConfigError(f"{place[1]}: {table} must be a table, got {above[table]!r}")
    families, singles = above.pop("family", {}), above.pop("only", {})
    for name in singles:
        if name not in method_names():
            raise ConfigError(f"{place[1]}: no method named {name!r} in [only]. {nearest(name, method_names())}")
    for name in families:
        if name not in _families():
            raise ConfigError(f"{place[1]}: no family named {name!r}. {nearest(name, _families())}")
    family = base.pop("family")
    if "description" in above:
        above["description"] = f"{base['description']}; {above['description']}"
    for change in (above, families.get(family, {}), singles.get(method, {})):
        base = _override(base, change)
    recipe = _read(base, changes, f"recipe {setting}-{method}")
    if (other := recipe.method.name) != method:
        _check_method(other)
        raise ConfigError(
            f"method.name={other!r} does not fit the recipe of {method}, whose learning rates do not suit it; use a "
            f"recipe of {other}"
        )
    return recipe


def _check_method(name: str) -> None:
    if name not in method_names():
        raise ConfigError(f"no method named {name!r}. {nearest(name, method_names())}")


def comments(name: str) -> str:
    """Comments in the files of a shipped recipe: commands, sources, what the sources do not state."""
    parts = recipe_parts(name)
    if parts is None:
        return ""
    setting, method = parts
    place, own = _shipped("settings", setting)[0].replace("METHOD", method), _shipped("methods", method)[0]
    names = {"family": parse_toml(own)["family"], "only": method}
    lines = [
        line
        for text in (place, own)
        for table, found in _comments_by_table(text)
        if table[0] not in OVERRIDES or table[1] == names[table[0]]
        for line in found
    ]
    return "".join(f"{line}\n" for line in lines)


def _comments_by_table(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(keys of the table, its comments): those right before its header, and those in it."""
    table, waiting = [""], list[str]()
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            waiting.append(line)
            continue
        if line.startswith("["):
            table = line.strip("[]").split(".")
        if waiting:
            yield table, waiting
            waiting = []


def _families() -> set[str]:
    return {_parse(*_shipped("methods", name))["family"] for name in method_names()}


def _names(kind: str) -> list[str]:
    return sorted(file.name.removesuffix(".toml") for file in (FOLDER / kind).iterdir() if file.name.endswith(".toml"))


def _shipped(kind: str, name: str) -> tuple[str, str]:
    return (FOLDER / kind / f"{name}.toml").read_text(encoding="utf-8"), f"recipes/{kind}/{name}.toml"


def _file_text(path: Path) -> tuple[str, str]:
    return read_text(path, "the recipe"), str(path)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from None
    return _with_current_keys(values, where)


def _with_current_keys(values: dict[str, Any], where: str) -> dict[str, Any]:
    """`with_current_keys` of a recipe, a setting or a change, before it is merged with others."""
    try:
        values = dict(with_current_keys(values))
        for kind in OVERRIDES:
            if isinstance(tables := values.get(kind), Mapping):
                values[kind] = {name: with_current_keys(table) for name, table in tables.items()}
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return values


def _read(values: Mapping[str, Any], changes: Iterable[str], where: str) -> Recipe:
    for change in map(_parse_change, changes):
        values = _override(values, change)
    return read_model(Recipe, values, where)


def _parse_change(change: str) -> dict[str, Any]:
    """``training.rounds=3`` -> {"training": {"rounds": 3}}; a value that is not TOML is text."""
    key, equals, text = change.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(
            f"a change of a recipe must be KEY=VALUE, such as training.rounds=3; got {change!r}", setting="changes"
        )
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    for part in reversed(key.split(".")):
        value = {part: value}
    return _with_current_keys(dict(value), change)


def _override(values: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with a change at every code length, which no ``by_bits`` table of ``values`` may undo.

    Such a table loses the keys of the change, so that it holds only what differs at its length.
    """
    everywhere = {key: value for key, value in change.items() if key != "by_bits"}
    tables = values.get("by_bits")
    if isinstance(tables, Mapping):
        lengths = {
            bits: _less(table, everywhere) if isinstance(table, Mapping) else table for bits, table in tables.items()
        }
        values = {**values, "by_bits": {bits: table for bits, table in lengths.items() if table != {}}}
    return merge(values, change)


def _less(table: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` without the keys of ``known``, table by table, and without tables that become empty."""
    left = {}
    for key, value in table.items():
        if key not in known:
            left[key] = value
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping) and (rest := _less(value, known[key])):
            left[key] = rest
    return left
