"""Model cards of trained models, in the hub's format (YAML header, Markdown body)."""

from typing import TYPE_CHECKING

from shared.data.dataset import Dataset
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.model import Model
    from shared.training.config import TrainConfig


def render_card(model: "Model", dataset: Dataset, config: "TrainConfig", best_epoch: int) -> str:
    """The card of a model that a run made: inputs with units, data, recipe.

    Scores are not in it: they stand in the run's results, with their intervals.
    """
    kind = "synthetic data" if dataset.synthetic else "data"
    parameters = sum(p.numel() for p in model.parameters())
    objectives = ", ".join(config.objective)
    fraction = config.loader.label_fraction
    labels = f" (of the labelled ones a share of {fraction:.3g})" if fraction < 1 else ""
    start = f"Started from the weights of `{config.init.weights}`.\n" if config.init.weights else ""
    return f"""---
library_name: domain-zoo
tags: [{config.domain}, {", ".join(model.modalities)}]
---
# {config.model["name"]}, trained on {dataset.title}

Trained by `zoo train domain={config.domain}` on the {kind} `{dataset.title}`
(fingerprint `{dataset.fingerprint}`), {len(dataset.indices("train"))} training samples{labels},
seed {config.seed}, objectives {objectives}; the weights are those of epoch {best_epoch} of
{config.trainer.max_epochs}. {parameters:,} parameters, float32.
{start}{_classes(model)}
## Inputs

{input_table(model.schemas)}

## Use

```python
import zoo

model = zoo.load("THIS FOLDER")
embeddings = model.embed({model.modalities[0]}=[raw_input, ...])
{_predict_line(model)}```
"""


def _classes(model: "Model") -> str:
    classifier = model.config.classifier
    if classifier is None or not classifier.classes:
        return ""
    return f"Its classifier knows {', '.join(classifier.classes)}.\n"


def _predict_line(model: "Model") -> str:
    if model.classifier is None:
        return ""
    return f"probabilities = model.predict({model.modalities[0]}=[raw_input, ...])\n"


def input_table(schemas: dict[str, Schema]) -> str:
    """Channels, units and shapes as a Markdown table."""
    lines = ["| modality | shape | channels [unit] |", "| --- | --- | --- |"]
    for name, schema in schemas.items():
        channels = ", ".join(str(channel) for channel in schema.channels) or schema.dtype
        lines.append(f"| {name} | ({', '.join(schema.axes)}) | {channels} |")
    return "\n".join(lines)
