"""The smallest domain: points on a noisy circle, by position and by bearing (synthetic).

Shapes and phrases (synthetic too) are what the tests run the other objectives on.
"""

from pathlib import Path

from zoo import Domain

HERE = Path(__file__).parent

DOMAIN = Domain(
    name="toy",
    title="Toy: points on a noisy circle by position and bearing (synthetic)",
    datasets={
        "noisy_circle": "zoo_toy.data:NoisyCircle",
        "shapes": "zoo_toy.shapes:ShapesDataset",
        "phrases": "zoo_toy.phrases:PhrasesDataset",
    },
    preprocessors={
        "toy_position": "zoo_toy.preprocess:Position",
        "toy_bearing": "zoo_toy.preprocess:Bearing",
        "toy_labels": "zoo_toy.symbols:LabelMap",
        "toy_symbols": "zoo_toy.symbols:Symbols",
    },
    encoders={"toy_mlp": "zoo_toy.encoder:ToyMLP"},
    objectives={"alignment_uniformity": "zoo_toy.objective:AlignmentUniformity"},
    evaluators={"quadrants": "zoo_toy.models:QUADRANTS"},
    models={"toy-model": "zoo_toy.models:TOY_MODEL"},
    configs=HERE / "configs",
    cards=HERE / "cards",
)
