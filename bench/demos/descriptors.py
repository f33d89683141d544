"""Descriptors that leak in nginx: clients begin a request and never end it, and no timeout ends it either."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .scenario import Scenario, Server, free_port, process, wait_for_server, work

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_header_timeout 1h;
  server {{
    listen 127.0.0.1:{port};
    root {directory}/html;
  }}
}}
"""


@contextmanager
def serve(directory: Path) -> Iterator[Server]:
    """Run nginx with one worker and its files in ``directory``."""
    program = shutil.which("nginx")
    if program is None:
        raise SystemExit("demonstration: no nginx: ./run demo installs it")
    port = free_port()
    directory.chmod(0o755)
    (directory / "html").mkdir()
    (directory / "html/index.html").write_text("<p>hello</p>\n" * 100)
    (directory / "nginx.conf").write_text(CONFIGURATION.format(directory=directory, port=port))
    with process(program, "-c", directory / "nginx.conf", "-e", directory / "error.log") as nginx:
        wait_for_server(port)
        with work("http_work.py", "--port", port, "load"):
            yield Server(nginx.pid, port)


def provoke(server: Server) -> AbstractContextManager[None]:
    """Open twenty connections a second that never say all of their request; they are closed."""
    return work("http_work.py", "--port", server.port, "hold")


SCENARIO = Scenario(
    name="descriptors",
    normal="an nginx answers 200 requests a second",
    fault="clients begin a request and never end it: connections pile up, twenty a second",
    serve=serve,
    provoke=provoke,
    blamed=("process.fds",),
)
