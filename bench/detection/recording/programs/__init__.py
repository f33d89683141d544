"""The programs that are recorded: one file and one line each."""

from __future__ import annotations

from importlib import import_module

from bench.detection.recording.program import Program

REGISTRY = {
    "redis": "redis:Redis",
    "nginx": "nginx:Nginx",
    "postgres": "postgres:Postgres",
    "c_server": "c_server:CServer",
    "http_server": "http_server:HttpServer",
    "echo": "echo:Echo",
    "sqlite": "sqlite:Sqlite",
    "stream": "stream:Stream",
    "batch": "batch:Batch",
    "idle": "idle:Idle",
    "perl": "perl:Perl",
}


def program_class(name: str) -> type[Program]:
    """Return the class of a registered program."""
    module, _, cls = REGISTRY[name].partition(":")
    found: type[Program] = getattr(import_module(f"{__name__}.{module}"), cls)
    return found
