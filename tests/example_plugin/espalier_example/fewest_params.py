"""An evaluator: the fewer parameters, the better. It needs no supernet, so none is trained."""

from trainers.deploy.standalone import Score
from trainers.search.evaluation import EVALUATORS, Evaluator


@EVALUATORS.register("fewest_params")
class FewestParams(Evaluator):
    needs_supernet = False

    def validate(self, indices: tuple[int, ...]) -> Score:
        space = self.plan.space
        params_m = sum(op.params for op in space.operations(space.choices(indices))) / 1e6
        return Score(accuracy=1 / (1 + params_m), loss=params_m, images=0)
