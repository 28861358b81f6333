"""What MAE's and MultiMAE's training holds, under our names; MAE's encoder alone is in
checkpoints_vit.py."""

from shared.encoders.checkpoints_vit import MAE
from shared.weights import KeyMap


def mae_training(modality: str, term: str) -> KeyMap:
    """facebookresearch/mae, encoder and decoder → a runner with the objective `mae`.

    Args:
        modality: Whose encoder it is.
        term: Name of the objective in the config.
    """
    encoder, decoder = f"model.encoders.{modality}", f"objectives.{term}.decoder"
    return KeyMap(
        (
            ("decoder_*", f"{decoder}.*"),
            ("mask_token", f"{decoder}.mask_token"),
            *((theirs, f"{encoder}.{ours}") for theirs, ours in MAE.rules),
        )
    )


def multimae_training(term: str) -> KeyMap:
    """EPFL-VILAB/MultiMAE → a runner with the objective `multimae`, whose modalities and tasks
    have upstream's names.

    Args:
        term: Name of the objective in the config.
    """
    decoder = f"objectives.{term}.decoders.*"
    return KeyMap(
        (
            ("input_adapters.*", "model.encoders.*"),
            ("encoder.*", "model.fusion.blocks.*"),
            ("global_tokens", "model.fusion.global_token"),
            # first: inside of these the names below stand for something else
            ("output_adapters.*.decoder_transformer.*", f"{decoder}.blocks.*"),
            ("output_adapters.*.decoder.*", f"{decoder}.attention.*"),
            ("output_adapters.*.task_embeddings.*", f"{decoder}.modality_embeddings.*"),
            ("output_adapters.*.proj_context.*", f"{decoder}.embed.*"),
            ("output_adapters.*.out_norm.*", f"{decoder}.mlp_norm.*"),
            ("output_adapters.*.out_proj.*", f"{decoder}.pred.*"),
            ("output_adapters.*", decoder),
        )
    )
