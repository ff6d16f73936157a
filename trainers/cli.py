"""`espalier-search`: the command line. The configuration ends here; plain values go on."""

import os
import signal
import sys
import traceback
from types import FrameType

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hardware_models.errors import BudgetInfeasibleError
from search_spaces.errors import EspalierError, InvalidInputError

DONE, ERROR, REFUSED, UNMET = 0, 1, 2, 3
_codes: list[int] = []  # of the searches of this command, in order


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="search")
def _job(config: DictConfig) -> None:
    """One search. Its failure is told and kept here: raised, it would end a sweep's other searches unseen."""
    try:
        _codes.append(_search(config))
    except (InvalidInputError, BudgetInfeasibleError) as error:
        _codes.append(_say(REFUSED, str(error)))
    except EspalierError as error:
        _codes.append(_say(ERROR, str(error)))
    except Exception as error:
        traceback.print_exc()
        _codes.append(_say(ERROR, f"{type(error).__name__}: {error}; this is a fault of Espalier, please report it"))


def _search(config: DictConfig) -> int:
    # Imported here so that --help and --cfg answer at once.
    from trainers.config import validate
    from trainers.search import run_search

    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    checked = validate({str(key): value for key, value in content.items()})
    result = run_search(checked, lambda line: print(line, flush=True))
    return UNMET if result["status"] == "unmet" else DONE


def search() -> None:
    """Runs `espalier-search` and exits: 0 done, 1 error, 2 refused, 3 a budget not met, 130 and 143 on signals."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here as they are
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_guarded())


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a run as Ctrl-C does, whatever it is at."""
    raise KeyboardInterrupt(number)


def _guarded() -> int:
    _codes.clear()
    sys.argv[1:] = overrides_last(sys.argv[1:])
    try:
        _job()
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # a configuration that cannot be composed
        return _say(REFUSED, str(error))
    except KeyboardInterrupt as error:
        code = 128 + (error.args[0] if error.args else signal.SIGINT)
        return _say(code, "interrupted; the same command starts this search again")
    return min((code for code in _codes if code != DONE), default=DONE)


def overrides_last(arguments: list[str]) -> list[str]:
    """The same arguments with flags first: Hydra's parser refuses overrides on both sides of a flag such as `-m`."""
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return [a for a in arguments if a not in overrides] + overrides


def _say(code: int, message: str) -> int:
    print(f"espalier-search: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    search()
