"""Four disjoint parts of an image set: which of its images train, rank and test."""

import hashlib
from dataclasses import dataclass, replace
from math import isclose
from typing import Annotated, Literal, Self, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from trainers.data.image_set import DataError, ImageSet, class_quantiles, key_generator

# Shapes: N images of the set, S images of a split.

Split = Literal["weights", "architecture", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Share = Annotated[float, Field(gt=0, lt=1)]


class Shares(BaseModel):
    """Parts of the images that are not for testing; `test` is a part of all images, of sets without a test part."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    weights: Share
    architecture: Share
    validation: Share
    test: Share | None = None

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.weights + self.architecture + self.validation
        if not isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"weights + architecture + validation must be 1, got {total:g}; change one of them")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Disjoint ascending indices into an image set, each int64 (S,), and a sha256 over them and the set's content.

    Weights are trained on `weights`, the architecture on `architecture`, candidates ranked on `validation`; `test` is
    read for the final figure alone.
    """

    weights: Tensor
    architecture: Tensor
    validation: Tensor
    test: Tensor
    hash: str

    def joined(self) -> Self:
        """With the images of both training splits in `weights`."""
        weights = torch.cat([self.weights, self.architecture]).sort().values
        return replace(self, weights=weights, architecture=weights[:0])


def make_splits(image_set: ImageSet, shares: Shares, *, seed: int) -> Splits:
    """The image set divided by `shares`, stratified by label, a function of `seed`.

    Test and validation parts are the set's own; a set without one gives up the share `test`, or `validation`.
    Raises: DataError if a part gets no image of some class, or a set without a test part no share `test`.
    """
    labels_N = image_set.labels
    is_test_N = image_set.is_test
    if is_test_N is None:
        if shares.test is None:
            raise DataError(f"{image_set.origin} has no test part and shares.test is null; give it a share, say 0.2")
        is_test_N = class_quantiles(labels_N, key_generator("test", seed)) < shares.test
        if image_set.is_validation is not None:
            is_test_N &= ~image_set.is_validation
    own, trained = image_set.is_validation, shares.weights + shares.architecture
    rest = (~is_test_N if own is None else ~(is_test_N | own)).nonzero().squeeze(1)
    quantiles = class_quantiles(labels_N[rest], key_generator("splits", seed))
    shares_of_rest = [shares.weights, trained] if own is None else [shares.weights / trained, 1.0]
    part = torch.bucketize(quantiles, torch.tensor(shares_of_rest, dtype=torch.float64), right=True)
    parts = {name: rest[part == i] for i, name in enumerate(("weights", "architecture", "validation"))}
    if own is not None:
        parts["validation"] = own.nonzero().squeeze(1)
    parts["test"] = is_test_N.nonzero().squeeze(1)
    for name, indices in parts.items():
        counts = labels_N[indices].bincount(minlength=image_set.num_classes)
        lacking = (counts == 0).nonzero().squeeze(1).tolist()
        if lacking and (name != "test" or not len(indices)):
            raise DataError(
                f"{image_set.origin}: {len(labels_N)} images are too few for the splits: {name} gets {len(indices)}, "
                f"and none of classes {lacking}; raise limit or limit_test, or change the shares"
            )
    content = hashlib.sha256(image_set.digest().encode())
    for name, indices in parts.items():
        content.update(f"{name} {len(indices)}".encode() + indices.numpy().astype("<i8").tobytes())
    return Splits(**parts, hash=content.hexdigest())
