"""The text tower of CLIP (arXiv:2103.00020, §2.4): a causal transformer."""

import torch
from torch import Tensor, nn

from shared.encoders.base import Embedding, Encoder
from shared.encoders.clip_blocks import NORM_EPS, build_blocks
from shared.errors import DataError


class CLIPText(Encoder):
    """Tokens that look back only, read at the end of the text.

    Input `input_ids` (batch, length) int64, length at most `context_length`. The end of a text is
    where its largest id first stands, as in CLIP's vocabulary; ids after it change nothing.
    `pooled` (batch, dim) is the token there, `tokens` (batch, length, dim) are all, after the last
    norm, `mask` (batch, length) ends with the text; CLIP's projection is the model's head. The
    defaults are those of ViT-B/32.

    Args:
        vocab_size: Number of ids.
        context_length: Most ids of a text.
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Of the attention.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        quick_gelu: As of `CLIPVision`.
    """

    def __init__(
        self,
        vocab_size: int = 49408,
        context_length: int = 77,
        dim: int = 512,
        depth: int = 12,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.context_length = dim, context_length
        self.token_embed = nn.Embedding(vocab_size, dim)
        self.pos_embed = nn.Parameter(0.01 * torch.randn(context_length, dim))
        blocks = build_blocks(dim, depth, num_heads, mlp_ratio, quick_gelu)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        # OpenAI's start: what adds to the residual is smaller the deeper the tower
        nn.init.normal_(self.token_embed.weight, std=0.02)
        for block in blocks:
            nn.init.normal_(block.self_attn.in_proj_weight, std=dim**-0.5)
            nn.init.normal_(block.linear1.weight, std=(2 * dim) ** -0.5)
            for out in (block.self_attn.out_proj, block.linear2):
                nn.init.normal_(out.weight, std=(2 * dim * depth) ** -0.5)

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError for texts longer than the context."""
        ids = inputs["input_ids"]
        length = ids.shape[1]
        if length > self.context_length:
            raise DataError(
                f"A text of {length} ids for an encoder of at most {self.context_length}: cut it "
                "in the preprocessing."
            )
        x = self.token_embed(ids) + self.pos_embed[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
        for block in self.blocks:
            x = block(x, src_mask=later, is_causal=True)
        x = self.norm(x)
        end = ids.argmax(dim=1, keepdim=True)
        pooled = x.gather(1, end[..., None].expand(-1, -1, self.dim))[:, 0]
        return Embedding(pooled, x, torch.arange(length, device=ids.device) <= end)
