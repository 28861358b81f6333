"""How windows of scenes and sentences about them are judged."""

from domains.remote_sensing.thumbnails import draw_image, draw_text
from shared.evaluation.evaluator import Evaluator

AIR_SLT = Evaluator(
    protocols=("semantic_localisation",),
    simple_features={},
    thumbnails={"image": draw_image, "text": draw_text},
)
