"""RS-M-CLIP (arXiv:2410.23370): remote sensing's multilingual CLIP."""

from shared.model_entry import HubSource, ModelEntry

_FILES = ("open_clip_config.json", "open_clip_model.safetensors", "sentencepiece.bpe.model")

RS_M_CLIP = ModelEntry(
    variants={"ViT-B-32": "rs-m-clip/ViT-B-32", "small": "rs-m-clip/small"},
    dataset="simulated_scenes",
    train="zoo train domain=remote_sensing experiment=rs_m_clip",
    hub={},
    # which files lie there is not verified; the vocabulary is also FacebookAI/xlm-roberta-base's
    upstream={"ViT-B-32": HubSource("joaodaniel/RS-M-CLIP", files=_FILES)},
    importer="domains.remote_sensing.rs_m_clip_files:import_model",
)
