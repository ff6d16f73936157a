"""An operation of the NAS-Bench-201 cell: a 3x3 max pool, in one record."""

from torch import nn

from search_spaces.nasbench201.cell_operations import CELL_OPERATIONS, CellOperation
from search_spaces.operation import Operation

MAX_POOL = CellOperation(
    module=lambda channels: nn.MaxPool2d(3, stride=1, padding=1),
    runs=lambda shape: (Operation("max_pool", shape, shape, kernel=3),),
    words="3×3 max pool",
)
CELL_OPERATIONS.register("max_pool_3x3")(MAX_POOL)
