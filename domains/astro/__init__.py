"""Astronomy: light curves, spectra and catalogue columns of variable stars and supernovae."""

from shared.domain import Domain

DOMAIN = Domain(
    name="astro",
    title="Astronomy: variable stars by light curve, spectrum and catalogue columns",
    requires=("astropy",),
    datasets={
        "simulated_variable_stars": "domains.astro.datasets.simulated:SimulatedVariableStars",
        "sdss_s82_rrlyrae": "domains.astro.datasets.sdss_s82_rrlyrae:SdssS82RRLyrae",
        "osc_supernovae": "domains.astro.datasets.osc_supernovae:OscSupernovae",
        "star_folder": "domains.astro.datasets.folder:StarFolder",
    },
    adapters={"ab_magnitude_to_flux": "domains.astro.adapters:AB_MAGNITUDE_TO_FLUX"},
    preprocessors={
        "light_curve": "domains.astro.preprocess:LightCurve",
        "spectrum": "domains.astro.preprocess:Spectrum",
        "metadata_table": "domains.astro.preprocess:MetadataTable",
    },
    encoders={
        "light_curve_transformer": (
            "domains.astro.encoders.light_curve_transformer:LightCurveTransformer"
        ),
        "galspecnet": "domains.astro.encoders.galspecnet:GalSpecNet",
        "informer": "domains.astro.encoders.informer:Informer",
        "metadata_mlp": "domains.astro.encoders.metadata_mlp:MetadataMLP",
    },
    evaluators={"variable_stars": "domains.astro.evaluators:VARIABLE_STARS"},
    models={"star-clip": "domains.astro.models:STAR_CLIP"},
)
