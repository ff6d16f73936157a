"""A run at Weights & Biases, or kept in `wandb/` of its folder until `wandb sync` sends it there."""

import io
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import wandb
from PIL import Image
from pydantic import Field
from wandb.errors import AuthenticationError
from wandb.errors import Error as WandbError
from wandb.sdk.lib import wbauth

from search_spaces.errors import InvalidInputError
from trainers.loggers.base import Cell, LocalRunLogger, LoggerConfig, RunLogger, RunRecord
from trainers.loggers.identity import keep_id, known_id, trial_of_agent
from trainers.runs import metric_names
from trainers.search.callbacks import Report

Mode = Literal["online", "offline", "disabled"]
# W&B takes 128 of these characters.
ProjectName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:\x00-\x1f\x7f]+$")]
MAX_TAG = 64  # characters, of W&B


class WandbConfig(LoggerConfig):
    """The meaning of each key stands in conf/logger/wandb.yaml."""

    project: ProjectName
    entity: ProjectName | None
    mode: Mode | None


def decide_mode(explicit: Mode | None) -> Mode:
    """The explicit mode, else WANDB_MODE, else online with a key and offline without one.

    Raises: InvalidInputError for an unknown WANDB_MODE, for online without a key, and for a key that cannot be used.
    """
    modes, environment = get_args(Mode), os.environ.get("WANDB_MODE")
    if explicit is None and environment and environment not in modes:
        raise InvalidInputError(f"WANDB_MODE: got {environment!r}, allowed: {', '.join(modes)}; or set logger.mode")
    mode = explicit or environment or ("online" if has_key() else "offline")
    if mode == "online" and not has_key():
        raise InvalidInputError(
            f"{'logger.mode' if explicit else 'WANDB_MODE'}: got 'online', but there is no key of W&B; "
            "run `wandb login`, set WANDB_API_KEY, or take logger.mode=offline"
        )
    return cast(Mode, mode)


def has_key() -> bool:
    """Whether W&B finds a key for its server, in the environment, .netrc or its settings; asks nobody."""
    host = wandb.setup().settings.base_url
    try:
        found = wbauth.authenticate_session(host=host, source="espalier", prompt=False, update_session=False)
    except AuthenticationError as error:
        raise InvalidInputError(f"the key of W&B cannot be used: {error}; run `wandb login`") from error
    return found is not None


def register_chart(entity: str, name: str, chart: Mapping[str, Any]) -> str:
    """Keeps a Vega-Lite specification at W&B, where panels find it; returns its id, ENTITY/NAME."""
    return wandb.Api().create_custom_chart(
        entity=entity, name=name, display_name=name, spec_type="vega2", access="private", spec=dict(chart)
    )


class WandbRunLogger(RunLogger):
    """One run of W&B. Its files lie in the run folder, and its service ends with it."""

    Config = WandbConfig

    @classmethod
    def check(cls, config: WandbConfig, *, tags: Sequence[str]) -> None:
        if long := [tag for tag in tags if len(tag) > MAX_TAG]:
            raise InvalidInputError(f"tags: got {long}; W&B takes at most {MAX_TAG} characters each; shorten them")
        decide_mode(config.mode)

    @classmethod
    def open(cls, config: WandbConfig, record: RunRecord, report: Report) -> RunLogger:
        is_disabled = decide_mode(config.mode) == "disabled"
        return (LocalRunLogger if is_disabled else cls)(config, record, report)

    def __init__(self, config: WandbConfig, record: RunRecord, report: Report) -> None:
        self.record = record
        wanted = {
            # W&B else stages what it logs outside the run, where deleting the run would leave it.
            "WANDB_DATA_DIR": str(record.folder.resolve() / "wandb" / "data"),
            # W&B 0.31 else reports on its own health, even offline.
            "WANDB_ERROR_REPORTING": "false",
        }
        self.environment = {name: value for name, value in wanted.items() if name not in os.environ}
        os.environ.update(self.environment)
        try:
            self.run = wandb.init(
                project=config.project,
                entity=config.entity,
                dir=record.folder.resolve(),
                id=trial_of_agent() or known_id(record.folder, "wandb"),
                name=record.name,
                group=record.group,
                job_type=record.job_type,
                tags=record.tags,
                config=record.config,
                mode=decide_mode(config.mode),
                resume="allow",
                reinit="finish_previous",
                settings=wandb.Settings(silent=True, console="off", symlink=False, save_code=False, disable_git=True),
            )
        except WandbError as error:
            self._leave()
            raise InvalidInputError(f"W&B refused the run: {error}; logger.mode=offline goes on") from error
        keep_id(record.folder, "wandb", self.run.id)
        for path in Path(self.run.dir).parent.glob("logs/*"):
            if path.is_symlink():  # to the log of the service, outside the run folder
                path.unlink()
        self.run.define_metric(metric_names.STEP)
        self.run.define_metric("*", step_metric=metric_names.STEP)
        report(_place(self.run, record.folder, config.mode))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self.run.step:
            self.run.log({**values, metric_names.STEP: step}, step=step, commit=True)

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def picture(self, name: str, content: bytes | str) -> None:
        if isinstance(content, bytes):
            self.run.log({name: wandb.Image(Image.open(io.BytesIO(content)))})
        else:  # W&B's images are no vectors, its pages are
            self.run.log({name: wandb.Html(content, inject=False)})

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        """The parents stand in the metadata: W&B records no use of an artifact offline."""
        artifact = wandb.Artifact(_name(name), type=kind, metadata={"parents": [_name(parent) for parent in parents]})
        for path in files:
            inside = path.relative_to(self.record.folder).as_posix()
            artifact.add_file(str(path.resolve()), name=inside, policy="immutable")
        self.run.log_artifact(artifact)

    def alert(self, title: str, text: str) -> None:
        self.run.alert(title, text)

    def finish(self, exit_code: int) -> None:
        try:
            self.run.finish(exit_code=exit_code)
        finally:
            self._leave()

    def _leave(self) -> None:
        wandb.teardown()
        for name in self.environment:
            os.environ.pop(name, None)


def _place(run: wandb.Run, folder: Path, explicit: Mode | None) -> str:
    """The one line on where the run is logged."""
    if not run.offline:
        return f"W&B: {run.url}"
    kept = folder / "wandb" / Path(run.dir).parent.name
    why = "" if explicit or os.environ.get("WANDB_MODE") else ", as there is no key"
    return f"W&B: offline{why}; to send it: wandb sync {shlex.quote(str(kept))}"


def _name(artifact: str) -> str:
    """Artifacts of W&B are named by letters, digits, dashes, underscores and dots, 128 at most."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", artifact)[:128]
