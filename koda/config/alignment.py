"""How a model is fine-tuned on what an audit found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from koda.config.strict import Strict


class AlignmentConfig(Strict):
    """How one of the two models is fine-tuned until it sees the slices as the other does (method section 8)."""

    student: Literal["candidate", "baseline"] = Field(
        default="candidate", description="which model is fine-tuned; the other one is the teacher"
    )
    findings: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="directions to learn from; default: the confirmed ones"
    )
    towers: Literal["image", "text", "both"] | None = Field(
        default=None, description="what is trained; default: the towers whose embeddings the audit compares"
    )
    kernel: Literal["polynomial", "gaussian", "cosine"] = Field(
        default="polynomial", description="polynomial: cubic, with a learnt scale; gaussian: the audit's bandwidths"
    )
    keep_weight: float = Field(
        default=5.0, ge=0, description="of the distance to the student's former embeddings, outside the slices"
    )
    kernel_weight: float = Field(default=4.0, ge=0, description="of the distance to the teacher's kernel")
    cross_weight: float | None = Field(
        default=None,
        ge=0,
        description="of the distance to the teacher's image-text cosines; default: 1 where both models have them",
    )
    steps: int = Field(default=400, ge=1, description="of training, at most")
    batch_size: int = Field(default=192, ge=4, description="samples whose kernel is compared at once")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients are added up before a step")
    slice_share: float = Field(default=0.5, gt=0, le=1, description="of a batch: samples of the slices")
    learning_rate: float = Field(default=1e-5, gt=0, description="after the warm-up; it falls to 0 by a cosine")
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    rank: int | None = Field(default=None, ge=1, description="of low-rank adapters; default: all weights are trained")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of the products while training; auto: bf16 on a GPU that is fast at it"
    )
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="of the discovery samples, never trained on")
    evaluate_every: int = Field(default=50, ge=1, description="steps")
    patience: int = Field(default=4, ge=1, description="looks without a better agreement before training stops")
    max_retrieval_drop: float = Field(
        default=0.02, ge=0, le=1, description="of R@1 on the validation samples; beyond it training stops"
    )
    seed: int = Field(default=0, ge=0, description="of the split, the batches and the adapters")

    @model_validator(mode="after")
    def _something_to_learn(self) -> AlignmentConfig:
        if self.kernel_weight == 0 and self.cross_weight == 0:
            raise ValueError("kernel_weight and cross_weight are both 0, so nothing would be learnt from the teacher")
        if self.findings is not None and len(set(self.findings)) < len(self.findings):
            raise ValueError("findings names a direction twice")
        return self
