"""Docstrings of everything public: `Args:` are the parameters, `Attributes:` the fields of results and options."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import milvus_fghash as fg

NAMES = sorted(set(fg.__all__) - {"__version__"})
CLASSES = [one for name in NAMES if inspect.isclass(one := getattr(fg, name)) and not issubclass(one, Exception)]


def entries(doc: str, section: str) -> list[str]:
    """The names of a Google-style section, such as `Args`; "a, b: text" counts as both."""
    found = re.search(rf"^{section}:\n((?:[ ]+.*\n|\n)+)", inspect.cleandoc(doc) + "\n", re.MULTILINE)
    lines = found[1].splitlines() if found else []
    names = [match[1] for line in lines if (match := re.match(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", line))]
    return [name.strip("*") for entry in names for name in entry.split(", ")]


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in NAMES:
        if inspect.isfunction(one := getattr(fg, name)):
            yield name, one
    for cls in CLASSES:
        for name, member in vars(cls).items():
            plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if name in getattr(cls, "__dataclass_fields__", {}):  # the default of a callback
                continue
            if inspect.isfunction(plain) and (not name.startswith("_") or name == "__call__"):
                yield f"{cls.__name__}.{name}", plain


def fields() -> Iterator[tuple[type, list[str]]]:
    for cls in CLASSES:
        if dataclasses.is_dataclass(cls) and cls is not fg.Catalog:  # made by `open`
            yield cls, [one.name for one in dataclasses.fields(cls) if not one.name.startswith("_")]
        elif hasattr(cls, "model_fields"):
            yield cls, list(cls.model_fields)


FUNCTIONS = dict(functions())
FIELDS = {cls.__name__: (cls, names) for cls, names in fields()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_args_are_the_parameters(name: str) -> None:
    function = FUNCTIONS[name]
    doc = function.__doc__ or ""
    assert doc, f"{name} has no docstring"
    expected = [one for one in inspect.signature(function).parameters if one not in {"self", "cls"}]
    assert sorted(entries(doc, "Args")) == sorted(expected), f"Args of {name}"


@pytest.mark.parametrize("name", FIELDS)
def test_attributes_are_the_fields(name: str) -> None:
    cls, expected = FIELDS[name]
    ours = [base for base in cls.__mro__ if base.__module__.startswith("milvus_fghash")]  # with inherited fields
    documented = [one for base in ours for one in entries(base.__doc__ or "", "Attributes")]
    assert sorted(documented) == sorted(expected), f"Attributes of {name}"


def test_a_docstring_that_lacks_a_parameter_is_seen() -> None:
    doc = """Do it.

    Args:
        one, two: numbers.
            Of any size: also large.
        **more: others.

    Returns:
        three: no parameter.
    """
    assert entries(doc, "Args") == ["one", "two", "more"]
    assert entries("Do it.", "Args") == []
