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
        "astrom3": "domains.astro.datasets.astrom3:AstroM3",
        "astrom3_processed": "domains.astro.datasets.astrom3_processed:AstroM3Processed",
        "snid_supernova_spectra": "domains.astro.datasets.snid:SnidSupernovaSpectra",
        "star_folder": "domains.astro.datasets.folder:StarFolder",
    },
    adapters={
        "ab_magnitude_to_flux": "domains.astro.adapters:AB_MAGNITUDE_TO_FLUX",
        "divide_continuum": "domains.astro.adapters:DIVIDE_CONTINUUM",
    },
    preprocessors={
        "light_curve": "domains.astro.preprocess.light_curve:LightCurve",
        "astrom3_light_curve": "domains.astro.preprocess.light_curve:AstroM3LightCurve",
        "processed_light_curve": "domains.astro.preprocess.processed:ProcessedLightCurve",
        "spectrum": "domains.astro.preprocess.spectrum:Spectrum",
        "processed_spectrum": "domains.astro.preprocess.processed:ProcessedSpectrum",
        "metadata_table": "domains.astro.preprocess.metadata:MetadataTable",
        "astrom3_metadata": "domains.astro.preprocess.metadata:AstroM3Metadata",
        "processed_metadata": "domains.astro.preprocess.processed:ProcessedMetadata",
    },
    encoders={
        "light_curve_transformer": (
            "domains.astro.encoders.light_curve_transformer:LightCurveTransformer"
        ),
        "galspecnet": "domains.astro.encoders.galspecnet:GalSpecNet",
        "informer": "domains.astro.encoders.informer:Informer",
        "metadata_mlp": "domains.astro.encoders.metadata_mlp:MetadataMLP",
        "spectrum_transformer": "domains.astro.encoders.spectrum_transformer:SpectrumTransformer",
    },
    evaluators={"variable_stars": "domains.astro.evaluators:VARIABLE_STARS"},
    models={
        "astrom3": "domains.astro.models:ASTROM3",
        "star-clip": "domains.astro.models:STAR_CLIP",
    },
)
