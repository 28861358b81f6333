"""The smallest domain: points on a noisy circle, by position and by bearing (synthetic)."""

from pathlib import Path

from zoo import Domain

HERE = Path(__file__).parent

DOMAIN = Domain(
    name="toy",
    title="Toy: points on a noisy circle by position and bearing (synthetic)",
    datasets={"noisy_circle": "zoo_toy.data:NoisyCircle"},
    preprocessors={
        "toy_position": "zoo_toy.preprocess:Position",
        "toy_bearing": "zoo_toy.preprocess:Bearing",
    },
    encoders={"toy_mlp": "zoo_toy.encoder:ToyMLP"},
    objectives={"alignment_uniformity": "zoo_toy.objective:AlignmentUniformity"},
    evaluators={"quadrants": "zoo_toy.models:QUADRANTS"},
    models={"toy-model": "zoo_toy.models:TOY_MODEL"},
    configs=HERE / "configs",
    cards=HERE / "cards",
)
