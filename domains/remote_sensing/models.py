"""GeoRSCLIP (arXiv:2306.11300): CLIP, tuned on images of the Earth from above."""

from shared.model_entry import HubSource, ModelEntry

# variant → file of the Hydra group `model`, file of the authors
_PUBLISHED = {
    "ViT-B-32": ("ViT-B-32", "RS5M_ViT-B-32.pt"),
    "ViT-B-32-RET-2": ("ViT-B-32", "RS5M_ViT-B-32_RET-2.pt"),
    "ViT-B-32-RSICD": ("ViT-B-32", "RS5M_ViT-B-32_RSICD.pt"),
    "ViT-L-14": ("ViT-L-14", "RS5M_ViT-L-14.pt"),
    "ViT-L-14-336": ("ViT-L-14-336", "RS5M_ViT-L-14-336.pt"),
    "ViT-H-14": ("ViT-H-14", "RS5M_ViT-H-14.pt"),
}

RS_CLIP = ModelEntry(
    variants={
        **{variant: f"rs-clip/{config}" for variant, (config, _) in _PUBLISHED.items()},
        "small": "rs-clip/small",
    },
    dataset="simulated_scenes",
    train="zoo train domain=remote_sensing",
    hub={},
    # no commit is known to be the published one
    upstream={
        variant: HubSource("Zilun/GeoRSCLIP", files=(f"ckpt/{file}",))
        for variant, (_, file) in _PUBLISHED.items()
    },
    importer="domains.remote_sensing.importing:import_model",
    exporter="shared.encoders.clip_files:write_clip_files",
)
