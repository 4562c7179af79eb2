"""Description of every block of an option file that no class takes as arguments: the types, the ranges, the meaning.

To add an option, add a field here (or in :mod:`macr_plugin.options.datasets`) with its type and description: the check
and docs/options.md follow. Arguments of networks, losses, metrics and optimizers are read from their classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from macr_plugin.options.precision import Precision


class Block(BaseModel):
    """A block whose keys are all known and whose values are what they look like in YAML."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _whole(value: Any) -> Any:
    # !!float 5e3 is how YAML 1.1 writes a large number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: Bytes of a name to which BasicSR adds the ends of the files and folders of a run; file systems allow 255.
LONGEST_NAME = 180


def _folder_name(value: str) -> str:
    if len(value.encode()) > LONGEST_NAME or not value.isprintable():
        raise ValueError(f"a name of at most {LONGEST_NAME} bytes that can be printed")
    if not value.strip() or value in (".", "..") or "/" in value or "\\" in value or "\0" in value:
        raise ValueError("the name of one folder, without / or ..")
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("text")
    return value


Count = Annotated[int, Strict(), Field(ge=1), BeforeValidator(_whole)]
NotNegative = Annotated[int, Strict(), Field(ge=0), BeforeValidator(_whole)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
FolderName = Annotated[str, Strict(), AfterValidator(_folder_name)]
Text = Annotated[str, Strict(), AfterValidator(_text)]
ArgumentsOfClass = dict[str, Any]


class PathOptions(Block):
    """Block ``path``: weights and states to start from."""

    pretrain_network_g: str | None = Field(None, description="weights to start from, or to test")
    param_key_g: str | None = Field(None, description="which weights of that file: params or params_ema")
    strict_load_g: bool = Field(True, description="every weight of the file must fit")
    pretrain_network_d: str | None = Field(None, description="the same of the discriminator")
    param_key_d: str | None = Field(None, description="the same of the discriminator")
    strict_load_d: bool = Field(True, description="the same of the discriminator")
    resume_state: str | None = Field(None, description=".state file to go on from; `--auto_resume` finds the newest")
    ignore_resume_networks: list[str] | str | None = Field(None, description="networks not to load in a resume")


class AccelerationOptions(Block):
    """Block ``train.acceleration``: how a training step runs."""

    precision: Literal["auto", Precision] | None = Field(None, description="of the network; empty leaves PyTorch's own")
    channels_last: bool | Literal["auto"] | None = Field(False, description="memory layout of pictures and weights")
    compile: bool | Literal["auto"] | None = Field(False, description="compile network and losses")
    cuda_graph: bool | Literal["auto"] | None = Field(False, description="replay the whole step with one launch")


class CommonTrainOptions(Block):
    """What every model class of the plugin reads in the block ``train``; all that ``MotionClassifierModel`` does."""

    total_iter: Count = Field(description="training steps")
    warmup_iter: Annotated[int, Field(ge=-1), BeforeValidator(_whole)] = Field(
        -1, description="steps of rising learning rate; -1 for none"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0, description="decay of the averaged weights; 0 for none")
    optim_g: ArgumentsOfClass = Field(description="type and arguments of the optimizer")
    scheduler: ArgumentsOfClass = Field(description="type and arguments of the schedule")
    pixel_opt: ArgumentsOfClass | None = Field(None, description="type and arguments of the loss of every scale")
    grad_clip_norm: Annotated[float, Field(gt=0)] | None = Field(None, description="largest norm of the gradient")
    on_nonfinite: Literal["stop", "skip"] = Field("stop", description="what to do where a loss is not finite")
    acceleration: AccelerationOptions | None = Field(None, description="how a step runs")


class TrainOptions(CommonTrainOptions):
    """Block ``train`` of ``MultiScaleDeblurModel``."""

    perceptual_opt: ArgumentsOfClass | None = Field(None, description="those of the finest scale's perceptual loss")
    scale_weights: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = Field(
        None, description="weight of each scale's loss, finest first; by default 1 each"
    )


class GANTrainOptions(TrainOptions):
    """Block ``train`` of ``MultiScaleDeblurGANModel``."""

    gan_opt: ArgumentsOfClass | None = Field(None, description="type and arguments of the adversarial loss")
    optim_d: ArgumentsOfClass | None = Field(None, description="type and arguments of the discriminator's optimizer")
    net_d_iters: Count = Field(1, description="the network is updated in every n-th step only")
    net_d_init_iters: NotNegative = Field(0, description="steps at first of the discriminator alone")


class ValOptions(Block):
    """Block ``val``."""

    val_freq: Count | None = Field(None, description="steps between validations")
    save_img: bool = Field(False, description="save every restored frame")
    suffix: str | None = Field(None, description="end of saved file names in a test; by default the run's name")
    metrics: dict[str, ArgumentsOfClass] | None = Field(None, description="name: type and arguments of each metric")
    pbar: bool = Field(False, description="progress bar")
    comparison_frames: NotNegative | None = Field(None, description="frames in the side-by-side picture")
    keep_best: str | None = Field(None, description="metric by which net_g_best.pth is kept")


class WandbOptions(Block):
    """Block ``logger.wandb``."""

    project: str | None = Field(None, description="project of Weights & Biases; needs use_tb_logger")
    resume_id: str | None = Field(None, description="id of the run to go on with")


class LoggerOptions(Block):
    """Block ``logger``."""

    print_freq: Count = Field(description="steps between log lines")
    save_checkpoint_freq: Count = Field(description="steps between checkpoints")
    keep_last: Count | None = Field(None, description="checkpoints kept beside the latest and the best; empty: all")
    use_tb_logger: bool = Field(False, description="curves for TensorBoard in tb_logger/")
    wandb: WandbOptions | None = Field(None, description="Weights & Biases")


class DistributedOptions(Block):
    """Block ``dist_params``, read with ``--launcher slurm``."""

    backend: Literal["nccl", "gloo", "mpi"] = Field("nccl", description="how processes talk")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(29500, description="port of the first process")


class OpenBlock(BaseModel):
    """A block in which others read keys of their own."""

    model_config = ConfigDict(extra="allow", strict=True)


#: Others' files have 0 and 1 too.
Switch = bool | Literal[0, 1]


class StockPathOptions(OpenBlock):
    """Block ``path`` of any model class."""

    resume_state: str | None = Field(None, description=".state file to go on from")
    ignore_resume_networks: list[str] | str | None = Field(None, description="networks not to load in a resume")


class StockTrainOptions(OpenBlock):
    """Block ``train`` of any model class."""

    total_iter: Count | None = Field(None, description="training steps")
    warmup_iter: Annotated[int, Field(ge=-1), BeforeValidator(_whole)] | None = Field(
        None, description="steps of rising learning rate; -1 for none"
    )
    ema_decay: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="decay of the averaged weights")
    net_d_iters: Count | None = Field(None, description="the network is updated in every n-th step only")
    net_d_init_iters: NotNegative | None = Field(None, description="steps at first of the discriminator alone")


class StockValOptions(OpenBlock):
    """Block ``val`` of any model class."""

    val_freq: Count | None = Field(None, description="steps between validations")
    save_img: bool | None = Field(None, description="save every restored frame")
    metrics: dict[str, ArgumentsOfClass] | None = Field(None, description="name: type and arguments of each metric")


class StockLoggerOptions(OpenBlock):
    """Block ``logger`` of any model class."""

    print_freq: Count | None = Field(None, description="steps between log lines")
    save_checkpoint_freq: Count | None = Field(None, description="steps between checkpoints")
    use_tb_logger: bool | None = Field(None, description="curves for TensorBoard")
    wandb: dict[str, Any] | None = Field(None, description="Weights & Biases")


class StockRun(OpenBlock):
    """What holds for an option file of any model class."""

    name: FolderName = Field("run", description="folder below experiments/ or results/")
    model_type: str = Field(description="class that trains and tests")
    num_gpu: Annotated[int, Field(ge=0)] | Literal["auto"] = Field("auto", description="GPUs of this process")
    manual_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(None, description="seed; empty draws one")
    datasets: dict[str, dict[str, Any]] = Field(description="train, val, val_2, test_1 ...")
    path: StockPathOptions = Field({}, description="weights and states to start from")  # type: ignore[assignment]
    train: StockTrainOptions | None = Field(None, description="how the network is trained")
    val: StockValOptions | None = Field(None, description="how it is measured")
    logger: StockLoggerOptions | None = Field(None, description="what is logged and saved, and how often")
    scale: Annotated[int, Field(ge=1)] | None = Field(None, description="how many times larger the result is")
    dist_params: DistributedOptions | None = Field(None, description="for --launcher slurm")


class Run(Block):
    """Top of the option file of ``MultiScaleDeblurModel``; beside these keys there are ``network_g`` and its like."""

    name: FolderName = Field("run", description="folder below experiments/ or results/")
    model_type: str = Field(description="class that trains and tests")
    scale: Literal[1] | None = Field(1, description="deblurring keeps the size")
    num_gpu: Annotated[int, Field(ge=0)] | Literal["auto"] = Field("auto", description="auto: one if there is one")
    manual_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(None, description="seed; empty draws one")
    datasets: dict[str, dict[str, Any]] = Field(description="train, val, val_2, test_1 ...")
    path: PathOptions = Field({}, description="weights and states to start from")  # type: ignore[assignment]
    train: TrainOptions | None = Field(None, description="how the network is trained")
    val: ValOptions | None = Field(None, description="how it is measured")
    logger: LoggerOptions | None = Field(None, description="what is logged and saved, and how often")
    dist_params: DistributedOptions | None = Field(None, description="for `--launcher slurm`")
    find_unused_parameters: bool = Field(False, description="of DistributedDataParallel")


class GANRun(Run):
    """Top of the option file of ``MultiScaleDeblurGANModel``."""

    train: GANTrainOptions | None = Field(None, description="how the networks are trained")


class ClassifierRun(Run):
    """Top of the option file of ``MotionClassifierModel``."""

    train: CommonTrainOptions | None = Field(None, description="how the classifier is trained")  # type: ignore[assignment]


RUNS: dict[str, type[Run]] = {
    "MotionClassifierModel": ClassifierRun,
    "MultiScaleDeblurModel": Run,
    "MultiScaleDeblurGANModel": GANRun,
}
