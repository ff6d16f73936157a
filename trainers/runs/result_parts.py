"""Parts of a result.json that other files have too: of its data, and of what networks score."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from trainers.runs.config import Share
from trainers.runs.validation import STRICT

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A mapping of a file: exactly these fields, each of exactly this type."""

    model_config = STRICT | ConfigDict(serialize_by_alias=True)

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


class OpenPart(Part):
    """A mapping of a file with these fields, and perhaps others."""

    model_config = ConfigDict(extra="allow")


class Images(Part):
    weights: Count
    architecture: Count
    validation: Count
    test: Count


class Duplicates(Part):
    """Images with the same pixels as one of another part, and images of which the same is in another class too."""

    test_in_training: Count
    test_in_validation: Count
    validation_in_training: Count
    in_two_classes: Count


class Majority(Part):
    """The class of most test images, and its share of them: what is right if this class is always the answer."""

    name: str
    share: Share


class Data(Part):
    name: str
    origin: str
    split_hash: str
    images: Images
    left_out: dict[str, Count] = {}  # images beside them that were not read, by the reason
    duplicates: Duplicates | None = None  # which earlier versions did not count
    majority: Majority | None = None
    untested: list[str] = []  # classes that have no test images


ACCURACIES = ("supernet", "inherited", "random", "finetuned", "deployed")


class BalancedAccuracy(Part):
    """Mean over the classes that have test images of the accuracy on each, by kind as in `Accuracy`."""

    supernet: Share | None = None
    inherited: Share | None = None
    finetuned: Share | None = None
    random: Share | None = None
    deployed: Share | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Those that are known."""
        return {kind: share for kind in ACCURACIES if (share := getattr(self, kind)) is not None}


class Accuracy(BalancedAccuracy):
    """Test accuracy inside the supernet, with inherited weights, fine-tuned, of the best random network, and deployed.

    `deployed` is that of the file, run on the images as they are stored. Where no supernet gave weights, neither
    `supernet`, `inherited` nor `random` are known, and `finetuned` is of a network trained from scratch.
    """

    supernet: Share | None
    inherited: Share | None
    finetuned: Share
    random: Share | None
    images: Count
    balanced: BalancedAccuracy = BalancedAccuracy()


class Validation(Part):
    accuracy: Share
    loss: Number
    images: Count
    balanced_accuracy: Share | None = None
