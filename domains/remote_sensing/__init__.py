"""Remote sensing: images of the Earth from above, and texts about them."""

from shared.domain import Domain

DOMAIN = Domain(
    name="remote_sensing",
    title="Remote sensing: aerial and satellite images with captions and scene classes",
    extra="remote-sensing",
    requires=("open_clip", "torchvision", "rasterio", "cv2"),
    datasets={
        "simulated_scenes": "domains.remote_sensing.datasets.simulated:SimulatedScenes",
        "rsicd": "domains.remote_sensing.datasets.caption_json:Rsicd",
        "rsitmd": "domains.remote_sensing.datasets.caption_json:Rsitmd",
        "ucm_captions": "domains.remote_sensing.datasets.caption_json:UcmCaptions",
        "rsicd_captions": "domains.remote_sensing.datasets.caption_lines:RsicdCaptions",
        "caption_csv": "domains.remote_sensing.datasets.caption_csv:CaptionCsv",
        "rsvqa": "domains.remote_sensing.datasets.rsvqa:Rsvqa",
        "rs5m": "domains.remote_sensing.datasets.rs5m:RS5M",
        "eurosat": "domains.remote_sensing.datasets.scenes:EuroSAT",
        "eurosat_ms": "domains.remote_sensing.datasets.eurosat_ms:EuroSATMS",
        "resisc45": "domains.remote_sensing.datasets.scenes:RESISC45",
        "aid": "domains.remote_sensing.datasets.scenes:AID",
        "rsscn7": "domains.remote_sensing.datasets.scenes:RSSCN7",
        "geotiff_folder": "domains.remote_sensing.datasets.geotiff_folder:GeotiffFolder",
        "air_slt": "domains.remote_sensing.datasets.air_slt:AirSlt",
    },
    adapters={
        "true_colour": "domains.remote_sensing.adapters:TRUE_COLOUR",
    },
    protocols={
        "semantic_localisation": "domains.remote_sensing.selo.protocol:PROTOCOL",
    },
    evaluators={
        "remote_sensing": "domains.remote_sensing.evaluators:REMOTE_SENSING",
        "captions": "domains.remote_sensing.evaluators:CAPTIONS",
        "eurosat": "domains.remote_sensing.evaluators:EUROSAT",
        "eurosat_readable": "domains.remote_sensing.evaluators:EUROSAT_READABLE",
        "resisc45": "domains.remote_sensing.evaluators:RESISC45",
        "aid": "domains.remote_sensing.evaluators:AID",
        "aid_readable": "domains.remote_sensing.evaluators:AID_READABLE",
        "rsscn7": "domains.remote_sensing.evaluators:RSSCN7",
        "air_slt": "domains.remote_sensing.selo.evaluator:AIR_SLT",
    },
    models={
        "rs-clip": "domains.remote_sensing.models:RS_CLIP",
        "rs-m-clip": "domains.remote_sensing.rs_m_clip:RS_M_CLIP",
    },
)
