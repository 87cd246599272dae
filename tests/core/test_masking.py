"""What grants access, and the one function that keeps it out of text."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash import errors
from milvus_fghash.core.masking import KNOWN_SECRETS, Secrets, masked, secrets_in, without_secrets
from milvus_fghash.datasets.sources.file_systems import fetch_error
from milvus_fghash.datasets.sources.location import PhotoLocation, Url, name_of
from milvus_fghash.errors import FghashError, ImageRejected, RowsTooLarge, one_line
from milvus_fghash.milvus.connection import ConnectionConfig

letters = st.text("abXY01-._~!*+,;=$&", min_size=8, max_size=16)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:SECRET@host/a", "http://***@host/a"),
        ("https://me:SEC@RET@host:80/a b", "https://***@host:80/a b"),
        ("at s3://AKIA:SEC/RET+=@bucket/a.jpg: no", "at s3://***@bucket/a.jpg: no"),
        ("(ftp://SECRET@host)", "(ftp://***@host)"),
        ("https://me:SECRET@[bad/", "https://***@[bad/"),
        ("'http://host/a?sig=SECRET&x=1'", "'http://host/a?***'"),
        ("see (http://host/?token=SECRET), or", "see (http://host/?***), or"),
        ("tcp://host:19530?SECRET", "tcp://host:19530?***"),
        ("http://host/a#access_token=SECRET", "http://host/a?***"),
        ("Authorization: Bearer SECRET", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic SECRET=='}", "{'authorization': 'Basic ***'}"),
        ("GET /a?X-Amz-Signature=SECRET&x=1", "GET /a?X-Amz-Signature=***&x=1"),
        ('{"password": "SECRET", "a": 1}', '{"password": "***", "a": 1}'),
        ("token=SECRET", "token=***"),
    ],
)
def test_what_looks_like_a_secret(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(masked(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the Milvus URI must be http(s)://host:port, or a file",
        "it must be user:password, or an API key",
        "http://host:8080/a@b",
        "http://[::1]:19530/a@b",
        "s3://bucket/a?b#c@d.jpg",
        "http://host/photo?0123456789abcdef stands in the list more than once",
        "the token: it is wrong",
        "is it there? see http://host/help",
        "photos/me@home?.jpg",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert masked(text) == text


@given(letters, letters, letters)
def test_the_secrets_of_a_url_are_masked_wherever_they_stand(user: str, password: str, value: str) -> None:
    url = f"https://{user.replace(':', '')}:{password}@host/a.jpg?id={value}"
    for secret in secrets_in(url):
        assert secret not in masked(f"<<{secret}>>", url)
    for secret in (password, value.replace("&", "_").replace(";", "_")):
        if secret in url:
            assert secret not in masked(f"no such bucket {secret}", url)
    assert password not in without_secrets(url)


def test_known_ones_also_as_they_are_sent() -> None:
    secrets = Secrets()
    secrets.add_token("root:hunter2-secret")
    secrets.add_url("https://me:p%40ss-word@host/?key=a%2Fb-c-d-e&n=1")
    text = "root:hunter2-secret hunter2-secret cm9vdDpodW50ZXIyLXNlY3JldA== p%40ss-word p@ss-word a/b-c-d-e n=1"
    assert secrets.mask(text) == "*** *** *** *** *** *** n=1"
    secrets.add_settings(
        {"headers": {"Authorization": "Bearer long-token"}, "client_kwargs": {"timeout": "long-words"}}
    )
    assert secrets.mask("long-token long-words") == "*** long-words"


def test_the_public_password_of_milvus_blots_out_nothing() -> None:
    KNOWN_SECRETS.add_token("root:Milvus")
    assert masked("cannot connect to Milvus as root:Milvus") == "cannot connect to Milvus as ***"


def test_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret-key")
    monkeypatch.setenv("FSSPEC_HTTP", '{"headers": {"Authorization": "Bearer fsspec-token"}}')
    monkeypatch.setenv("FSSPEC_S3_SECRET", "fsspec-secret")
    assert masked("aws-secret-key fsspec-token fsspec-secret") == "*** *** ***"


@pytest.mark.parametrize("kind", [one for one in vars(errors).values() if getattr(one, "exit_code", 0)])
def test_no_error_of_this_project_holds_a_secret(kind: type[BaseException]) -> None:
    assert issubclass(kind, FghashError)
    KNOWN_SECRETS.add_token("root:hunter2-secret")
    text = "cannot read http://me:SECRET@host/?SECRET with hunter2-secret"
    takes = {ImageRejected: ("broken", text), RowsTooLarge: (text, ["7"])}
    error = kind(*takes.get(kind, (text,)))
    assert str(error) == "cannot read http://***@host/?*** with ***"
    assert str(pickle.loads(pickle.dumps(FghashError(text)))) == str(error)


def test_what_libraries_raise_and_what_places_say_of_themselves() -> None:
    where = "s3://AKIA:SECRET@birds/a.jpg"
    assert "SECRET" not in str(fetch_error("it", ValueError('Invalid bucket name "AKIA:SECRET@birds"'), where))
    assert "SECRET" not in one_line(ValueError("at http://me:SECRET@host/?sig=SECRET"))
    url = "https://me:SECRET@host/a.jpg?sig=SECRET"
    target = ConnectionConfig("http://me:SECRET@host:19530")
    for thing in (PhotoLocation(url, name_of(url)), Url(url), target):
        assert "SECRET" not in f"{thing} {thing!r}"
    assert masked("SECRET") == "***", "of the target"


def test_a_record_of_a_run_that_broke_unexpectedly(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from milvus_fghash.state.run_record import RunRecord

    record = RunRecord("ingest", {}, datetime.now(UTC))
    with pytest.raises(RuntimeError), record.outcome():
        raise RuntimeError("at http://me:SECRET@host/?sig=SECRET")
    assert record.ended == "failed: RuntimeError('at http://***@host/?***')"


def test_log_records_of_libraries(caplog: pytest.LogCaptureFixture) -> None:
    from milvus_fghash.cli.terminal.messages import JsonFormatter, MaskedFormatter

    record = logging.LogRecord("aiohttp", logging.ERROR, "", 0, "at %s", ("http://me:SECRET@h/?k=SECRET",), None)
    for formatter in (MaskedFormatter(), JsonFormatter()):
        assert "SECRET" not in formatter.format(record)
