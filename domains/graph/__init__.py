"""Graphs whose nodes carry texts: citations, products, pages."""

from shared.domain import Domain

DOMAIN = Domain(
    name="graph",
    title="Text-attributed graphs: subgraphs of citations, products and pages",
    requires=("scipy",),
    preprocessors={"subgraph": "domains.graph.preprocess:Subgraph"},
    encoders={"gps": "domains.graph.encoders.gps:GPS"},
)
