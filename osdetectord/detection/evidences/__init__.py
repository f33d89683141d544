"""The registry of evidences: one file and one line each."""

from __future__ import annotations

from importlib import import_module

from osdetectord.detection.evidence import Evidence

REGISTRY = {
    "level": "level:Level",
    "local": "local:Local",
    "sparse": "sparse:Sparse",
    "innovation": "innovation:Innovation",
    "memory": "memory:Memory",
    "relation": "relation:Relation",
    "window_pca": "window_pca:WindowPca",
    "seasonal": "seasonal:Seasonal",
    "load_drop": "load_drop:LoadDrop",
    "extremes": "extremes:Extremes",
    "compressed_sensing": "compressed_sensing:CompressedSensing",
    "lstm": "lstm:Lstm",
}
"""Name to ``module:class`` below this package; a module is imported only when its evidence is on."""

DEFAULT_ON = (
    "level",
    "local",
    "sparse",
    "innovation",
    "memory",
    "relation",
    "window_pca",
    "seasonal",
    "load_drop",
    "extremes",
)


def evidence_class(name: str) -> type[Evidence]:
    """Return the class of a registered evidence; raises :class:`ImportError` if its module needs what lacks."""
    module, _, cls = REGISTRY[name].partition(":")
    found: type[Evidence] = getattr(import_module(f"{__name__}.{module}"), cls)
    return found
