"""Import jobs by REST, for Milvus 2.4 and later.

POST /v2/vectordb/jobs/import/create    {dbName, collectionName, files: [[file]]} -> {jobId}
POST /v2/vectordb/jobs/import/describe  {dbName, jobId} -> {state, progress, reason, details: [{fileName, reason}]}
POST /v2/vectordb/jobs/import/list      {dbName, collectionName} -> {records: [{jobId, state}]}

Answers are {"code": 0, "data": ...}, or another code and a message. States are Pending, Importing, Completed and
Failed; later versions have more. With an `Idempotency-Key` (2.6.24, 3.0.2), a repeated request creates no second job.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from milvus_fghash.bulk_import.jobs.job import Job
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import StoreBusy, StoreError, one_line
from milvus_fghash.milvus.connection import ConnectionConfig
from milvus_fghash.milvus.proxies import http_proxy

TIMEOUT: Final = 60.0
MAX_MESSAGE_CHARS: Final = 300
"""Characters of an answer that are shown."""
BUSY_CODES: Final = frozenset({1, 2, 4, 8, 12, 10_001, 1807})
"""Not ready, unavailable, too many requests, rate limit, no resources, timeout, limiter of HTTP (Milvus' merr)."""
BUSY_WORDS: Final = re.compile(r"reached the limit|try again later|rate limit", re.IGNORECASE)
REJECTED_TOKEN: Final = frozenset({1400, 1800})
GONE: Final = re.compile(r"not exist|not found", re.IGNORECASE)
ENDED: Final = {"Completed": "completed", "Failed": "failed"}


class RestJobs:
    """`Jobs` of a server with REST."""

    def __init__(self, config: ConnectionConfig, collection: str, *, keyed: bool) -> None:
        self.keyed = keyed
        self._config, self._collection = config, collection
        self._opener = _opener(config)
        secure = config.secure or config.uri.startswith("https")
        self._url = re.sub(r"^\w+", "https" if secure else "http", config.uri).rstrip("/")

    def create(self, file: str, key: str) -> str | None:
        doing = f"cannot import {file}"
        body = {"collectionName": self._collection, "files": [[file]]}
        try:
            return str(self._post(doing, "create", body, {"Idempotency-Key": key})["jobId"])
        except _NoAnswer:
            return None

    def get(self, job: str) -> Job | None:
        try:
            found = self._post(f"cannot ask for the import {job}", "describe", {"jobId": job})
        except StoreBusy:
            raise
        except StoreError as error:
            if GONE.search(str(error)):
                return None
            raise
        details = found.get("details") or []
        return Job(
            id=job,
            state=ENDED.get(found["state"], "running"),  # type: ignore[arg-type]
            percent=int(found.get("progress") or 0),
            reason=found.get("reason") or "; ".join(filter(None, (one.get("reason") for one in details))),
            files=" ".join(str(one.get("fileName", "")) for one in details),
        )

    def under_way(self) -> Iterator[Job]:
        doing = f"cannot list the imports into {self._collection}"
        for record in self._post(doing, "list", {"collectionName": self._collection}).get("records") or []:
            if record["state"] not in ENDED and (job := self.get(str(record["jobId"]))) and job.state == "running":
                yield job

    def _post(self, doing: str, action: str, body: Mapping[str, Any], more: Mapping[str, str] | None = None) -> Any:
        """The ``data`` of an answer."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", **(more or {})}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        if self._config.db_name:
            body = {"dbName": self._config.db_name, **body}
        url = f"{self._url}/v2/vectordb/jobs/import/{action}"
        request = Request(url, json.dumps(body).encode(), headers, method="POST")
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                raw, status = response.read(), 200
        except HTTPError as error:
            with error:
                raw, status = error.read(), error.code
        except (OSError, HTTPException) as error:
            proxy = http_proxy(urlsplit(url).scheme, urlsplit(url).hostname or "")
            raise _NoAnswer(f"{doing}: {self._config.uri} does not answer: {error}{proxy and '. '}{proxy}") from None
        return _data(doing, status, raw)


class _NoAnswer(StoreBusy):
    """The request was sent, or may have been; no answer came."""


class _NoRedirects(HTTPRedirectHandler):
    """A token must not be sent to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(config: ConnectionConfig) -> OpenerDirector:
    context = ssl.create_default_context(cafile=config.server_pem_path or config.ca_pem_path)
    if config.client_pem_path:
        context.load_cert_chain(config.client_pem_path, config.client_key_path)
    return build_opener(HTTPSHandler(context=context), _NoRedirects)


def _data(doing: str, status: int, raw: bytes) -> Any:
    """The ``data`` of an answer; raises the error that it contains."""
    try:
        answer = parse_json(raw)
        code, message, data = answer.get("code", status), answer.get("message", ""), answer.get("data")
    except (ValueError, AttributeError):
        code, message, data = status, raw.decode("utf-8", "replace"), None
    message = one_line(message)[:MAX_MESSAGE_CHARS]
    if status >= 500 or status == 429:
        # A server or a proxy that fails may have executed the request.
        raise (_NoAnswer if status >= 500 else StoreBusy)(f"{doing}: the server answers {status} ({message})")
    if code in REJECTED_TOKEN or status in (401, 403):
        raise StoreError(
            f"{doing}: the server rejected the token; it must be user:password, or an API key that is still valid "
            f"({message})"
        )
    if code in BUSY_CODES or BUSY_WORDS.search(message):
        raise StoreBusy(f"{doing}: {message}")
    if status != 200 or code not in (0, 200) or data is None:
        raise StoreError(f"{doing}: the server answers {code} ({message or 'and nothing else'})")
    return data
