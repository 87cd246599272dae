"""A server that keeps the contract of Milvus' import jobs over HTTP, as its documentation has it.

Restful API v2 (create, describe, list), "Import Data" and "Idempotent Bulk Import" of milvus.io/docs, 3.0.x:

- POST with JSON; what comes back is {"code": 0, "data": ...} or another code and a message, with the HTTP status 200.
- Without the right token: status 401, code 1800.
- A key is printable ASCII, 256 bytes at the most; else code 1100. It belongs to the collection. The same key gives the
  id of the first job, a failed one too; what is asked for beside it is not compared. Versions before 2.6.24 and 3.0.2
  pass over it.
- Pending, Importing, Completed, Failed; a failed job has a reason. Rows are visible when it is completed.
- Rows are imported beside those that are there, whatever their ids.
- A job that is not known (any more), or too many at once: code 2100.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENDED = ("Completed", "Failed")


@dataclass
class ImportServer:
    """What it knows, and what goes wrong with it."""

    imports: Callable[[str], int] = lambda file: 0
    """Does the import of a file; the number of rows."""
    keyed: bool = True
    token: str = ""
    steps: int = 2
    """Looks at a job until it has ended."""
    fails: dict[str, str] = field(default_factory=dict)
    """Part of a file's name -> why its import fails."""
    most: int = 1024
    answers: list[str] = field(default_factory=list)
    """How the next requests end: `ok`, `lost` (done, not answered), `cut` (not done, not answered), `503`, `busy`."""
    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    """Action, body and headers of each request."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def created(self) -> list[str]:
        """Files, one for each job."""
        return [job["file"] for job in self.jobs.values()]

    def answer(self, action: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        with self.lock:
            self.seen.append((action, body, headers))
            if action == "create":
                return self._create(body, headers)
            if action == "describe":
                return self._describe(str(body["jobId"]))
            records = [
                {"jobId": key, "collectionName": job["collection"], "state": job["state"], "progress": job["progress"]}
                for key, job in self.jobs.items()
                if job["collection"] == body["collectionName"]
            ]
            return {"code": 0, "data": {"records": records}}

    def _create(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        collection, ((file,),) = body["collectionName"], body["files"]
        key = headers.get("idempotency-key", "")
        if self.keyed and not (key.isascii() and key.isprintable() and len(key) <= 256):
            return {"code": 1100, "message": "invalid idempotency key: invalid parameter"}
        if sum(job["state"] not in ENDED for job in self.jobs.values()) >= self.most:
            return {"code": 2100, "message": "The number of jobs has reached the limit, please try again later."}
        if self.keyed and (collection, key) in self.keys:
            return {"code": 0, "data": {"jobId": self.keys[collection, key]}}
        job = str(449_000_000_000_000_000 + len(self.jobs))
        self.jobs[job] = {"collection": collection, "file": file, "state": "Pending", "progress": 10, "reason": ""}
        self.keys[collection, key] = job
        return {"code": 0, "data": {"jobId": job}}

    def _describe(self, key: str) -> dict[str, Any]:
        job = self.jobs.get(key)
        if job is None:
            return {"code": 2100, "message": f"import job does not exist, jobID={key}: importing data failed"}
        if job["state"] not in ENDED:
            self._go_on(job)
        shown = {"fileName": f'paths:"{job["file"]}" ', "state": job["state"], "reason": job["reason"]}
        data = {"jobId": key, "collectionName": job["collection"], "details": [shown]}
        return {"code": 0, "data": {**data, **{name: job[name] for name in ("state", "progress", "reason")}}}

    def _go_on(self, job: dict[str, Any]) -> None:
        job["looks"] = job.get("looks", 0) + 1
        job["state"], job["progress"] = "Importing", min(90, 10 + 20 * job["looks"])
        if job["looks"] < self.steps:
            return
        reasons = [why for part, why in self.fails.items() if part in job["file"]]
        if reasons:
            job["state"], job["reason"] = "Failed", reasons[0]
        else:
            job["rows"] = self.imports(job["file"])
            job["state"], job["progress"] = "Completed", 100

    def finish_all(self) -> None:
        """Let all jobs end, as time does."""
        with self.lock:
            for job in self.jobs.values():
                while job["state"] not in ENDED:
                    self._go_on(job)


@contextmanager
def import_server(server: ImportServer) -> Iterator[ImportServer]:
    """Let it listen at a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            end = server.answers.pop(0) if server.answers else "ok"
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if end == "cut":
                return
            if end == "moved":
                self.send_response(302)
                self.send_header("Location", f"{server.url}/elsewhere")
                self.end_headers()
                return
            status, answer = 200, {"code": 8, "message": "rate limit exceeded"}
            if server.token and headers.get("authorization") != f"Bearer {server.token}":
                status, answer = 401, {"code": 1800, "message": "user hasn't authenticated"}
            elif end == "503":
                status, answer = 503, {"message": "upstream connect error"}
            elif end != "busy":
                assert self.path.startswith("/v2/vectordb/jobs/import/")
                answer = server.answer(self.path.rpartition("/")[2], json.loads(raw), headers)
            if end != "lost":
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
