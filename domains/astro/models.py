"""Astronomy's models."""

from shared.model_entry import HubSource, ModelEntry

STAR_CLIP = ModelEntry(
    variants={
        "small": "star-clip/small",
        "base": "star-clip/base",
        "masked": "star-clip/masked",
    },
    dataset="simulated_variable_stars",
    train="zoo train domain=astro",
    hub={},
)

_SEEDS = ("42", "0", "66", "12", "123")
_TRAIN = "zoo train domain=astro data=astrom3 data.root=PATH"
_PAPER = f"{_TRAIN} experiment=astrom3_paper"
_FINETUNE = f"{_TRAIN} init.weights=RUN experiment=astrom3_finetune"

ASTROM3 = ModelEntry(
    variants={
        "clip": "astrom3/published",
        **{f"clip-{seed}": "astrom3/published" for seed in _SEEDS},
        "all": "astrom3/all",
        "photo": "astrom3/photo",
        "spectra": "astrom3/spectra",
        "meta": "astrom3/meta",
        "base": "astrom3/base",
    },
    dataset={"name": "simulated_variable_stars", "catalogue_columns": True},
    train={
        "clip": _PAPER,
        **{f"clip-{seed}": f"{_PAPER} data.seed={seed}" for seed in _SEEDS},
        **{mode: f"{_FINETUNE}_{mode}" for mode in ("all", "photo", "spectra", "meta")},
        "base": "zoo train domain=astro model=astrom3/base objective=[astrom3]",
    },
    hub={},
    # no commit is known to be the published one
    upstream={
        "clip": HubSource("AstroMLCore/AstroM3-CLIP"),
        **{f"clip-{seed}": HubSource(f"AstroMLCore/AstroM3-CLIP-{seed}") for seed in _SEEDS},
        **{
            mode: HubSource(f"AstroMLCore/AstroM3-CLIP-{mode}")
            for mode in ("all", "photo", "spectra", "meta")
        },
    },
    # of which split those without a number are is not said: 42, the authors' first, is assumed
    statistics={
        variant: HubSource(
            "AstroMLCore/AstroM3Dataset",
            files=(f"splits/full/{seed}/info.json",),
            repo_type="dataset",
        )
        for variant, seed in (
            *((f"clip-{seed}", seed) for seed in _SEEDS),
            *((variant, "42") for variant in ("clip", "all", "photo", "spectra", "meta")),
        )
    },
    importer="domains.astro.importing:import_model",
)
