"""A threaded HTTP server that computes a little page."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from misbehave import lock, work

MOST = 20000
_cache: dict[str, int] = {}


class Handler(BaseHTTPRequestHandler):
    """Answers everything."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with lock:
            found = work(60)
            _cache[self.path] = len(_cache)
            if len(_cache) > MOST:
                _cache.clear()
        body = json.dumps({"found": found, "known": len(_cache), "more": list(range(200))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()
