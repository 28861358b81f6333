"""Proteins: sequences of residues and the texts that describe them."""

from shared.domain import Domain

DOMAIN = Domain(
    name="protein",
    title="Proteins: sequences and the texts that describe them",
    extra="text",
    requires=("transformers",),
    preprocessors={
        "protein_sequence": "domains.protein.preprocess:ProteinSequence",
        "text_fields": "domains.protein.preprocess:TextFields",
    },
    encoders={
        "esm": "domains.protein.encoders.esm:Esm",
        "protbert": "domains.protein.encoders.protbert:ProtBert",
        "cross_attention_fusion": "domains.protein.fusion:CrossAttentionFusion",
    },
)
