"""Flag > environment > file > default for every setting, and no token ever shown."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from milvus_fghash.cli.terminal.messages import MaskedFormatter
from milvus_fghash.core.masking import KNOWN_SECRETS, Secrets

pytestmark = pytest.mark.full

Run = Callable[..., Result]

TOKEN = "root:hunter2-secret"
NOBODY = "http://127.0.0.1:9"
"""Port 9 (discard) is closed everywhere that tests run."""


def settings(result: Result) -> dict[str, tuple[str, str]]:
    return {line["setting"]: (line["value"], line["from"]) for line in json.loads(result.stdout)["settings"]}


@pytest.mark.parametrize(
    ("flag", "variable", "file", "expected"),
    [
        ("flag.db", "variable.db", "file.db", ("flag.db", "flag")),
        (None, "variable.db", "file.db", ("variable.db", "environment")),
        (None, None, "file.db", ("file.db", "file")),
        (None, None, None, ("milvus-fghash.db", "default")),
    ],
)
def test_the_nearest_source_wins(
    run: Run, tmp_path: Path, flag: str | None, variable: str | None, file: str | None, expected: tuple[str, str]
) -> None:
    words: list[str] = ["doctor", "--json"]
    if file:
        (tmp_path / "settings.toml").write_text(f'[milvus]\nuri = "{file}"\n')
        words += ["--config", "settings.toml"]
    if flag:
        words += ["--uri", flag]
    assert settings(run(*words, env={"MILVUS_URI": variable} if variable else None))["uri"] == expected


def test_a_file_in_milvus_uri_does_not_meet_pymilvus_own_reading_of_it(tmp_path: Path) -> None:
    """pymilvus reads MILVUS_URI as it is imported, and rejects what is no URL; only a fresh process shows it."""
    command = [sys.executable, "-c", "from milvus_fghash.cli import main; main()", "collections", "list"]
    environment = {**os.environ, "MILVUS_URI": "gone.db"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: there is no Milvus Lite file gone.db; ingest creates one, or give another (--uri)\n"


def test_every_setting_can_stand_in_the_file(run: Run, tmp_path: Path) -> None:
    for name in ("server", "ca", "client", "key", "token"):
        (tmp_path / name).write_text(TOKEN)
    (tmp_path / "settings.toml").write_text(
        f'[milvus]\nuri = "{NOBODY}"\ntoken_file = "token"\ndb_name = "birds"\ncollection_name = "wings"\n'
        "secure = true\n"
        'server_pem_path = "server"\nca_pem_path = "ca"\nclient_pem_path = "client"\nclient_key_path = "key"\n'
        'server_name = "milvus.example"\n'
    )
    found = settings(run("doctor", "--json", "--config", "settings.toml"))
    assert {source for _value, source in found.values()} == {"file", "file (token file)"}
    assert found["token"] == ("set", "file (token file)")
    assert len(found) == 10


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        (["--token", TOKEN], {"MILVUS_TOKEN": "other:one"}, "flag"),
        (["--token-file", "token"], {"MILVUS_TOKEN": "other:one"}, "flag (token file)"),
        ([], {"MILVUS_TOKEN": TOKEN}, "environment"),
    ],
)
def test_where_a_token_came_from(
    run: Run, tmp_path: Path, flags: list[str], env: dict[str, str], expected: str
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    result = run("doctor", "--json", *flags, env=env)
    assert settings(result)["token"] == ("set", expected)
    assert TOKEN not in result.output


def test_two_tokens_are_wrong_usage(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    result = run("doctor", "--token", TOKEN, "--token-file", "token")
    assert result.exit_code == 2
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[milvus]\nurl = 'x'", "unknown key 'url' in [milvus]. Did you mean uri?"),
        ("[milvs]\nuri = 'x'", "Did you mean milvus?"),
        ("milvus = 3", "must be a table"),
        ("[milvus]\ntoken = 31337", "token in [milvus] must be a string"),
        ("[milvus]\nsecure = 'yes'", "secure in [milvus] must be true or false"),
        ("[milvus", "cannot read the settings file"),
    ],
)
def test_a_settings_file_is_read_strictly(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    result = run("doctor", "--config", "settings.toml")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "31337" not in result.output


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_useless_token_file_is_rejected(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    result = run("doctor", "--token-file", "token")
    assert result.exit_code == 1
    assert "token file" in result.stderr


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["collections", "list"], ["inspect", "--json"]])
@pytest.mark.parametrize("level", ["debug", "warning"])
@pytest.mark.parametrize("way", ["flag", "environment", "file", "uri"])
def test_no_token_is_ever_shown(run: Run, tmp_path: Path, words: list[str], level: str, way: str) -> None:
    (tmp_path / "settings.toml").write_text(f'[milvus]\ntoken = "{TOKEN}"\n')
    flags, env = ["--uri", NOBODY], {}
    if way == "flag":
        flags += ["--token", TOKEN]
    elif way == "environment":
        env["MILVUS_TOKEN"] = TOKEN
    elif way == "file":
        flags += ["--config", "settings.toml"]
    else:
        flags = ["--uri", NOBODY.replace("//", f"//{TOKEN}@")]
    result = run("--log-level", level, *words, *flags, env=env)
    assert result.exit_code == 1, "nothing listens there"
    assert "hunter2" not in result.output


def test_help_does_not_show_the_token_of_a_settings_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f'[milvus]\ntoken = "{TOKEN}"\n')
    result = run("doctor", "--config", "settings.toml", "--help", env={"MILVUS_TOKEN": TOKEN})
    assert result.exit_code == 0
    assert "hunter2" not in result.output


def test_a_uri_that_cannot_be_shows_none_of_itself(run: Run) -> None:
    result = run("collections", "list", "--uri", "http://root:hunter2-secret@[::1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the Milvus URI must be")
    assert "hunter2" not in result.output


@pytest.mark.parametrize("token", ["root:", ":secret-half", "two words", "trailing-space "])
def test_a_token_of_the_wrong_shape_is_not_repeated(run: Run, token: str) -> None:
    result = run("inspect", "--uri", NOBODY, "--token", token)
    assert result.exit_code == 1
    assert "invalid token" in result.stderr
    assert token.strip(":") not in result.stderr


def test_log_lines_and_their_tracebacks_are_masked() -> None:
    KNOWN_SECRETS.add_token(TOKEN)
    try:
        raise ValueError(f"login with {TOKEN} failed")
    except ValueError as error:
        record = logging.LogRecord("pymilvus", logging.ERROR, "", 0, "password %s", ("hunter2-secret",), None)
        record.exc_info = (ValueError, error, error.__traceback__)
    line = MaskedFormatter().format(record)
    assert "password ***" in line
    assert "login with *** failed" in line


def test_words_that_happen_to_equal_a_short_password_stay() -> None:
    secrets = Secrets()
    secrets.add_token("root:db")
    assert secrets.mask("photos.db with root:db") == "photos.db with ***"
