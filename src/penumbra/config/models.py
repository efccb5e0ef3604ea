"""What a configuration may say: one pydantic model for each kind of YAML file.

Every model forbids unknown keys. The JSON schemas in ``workflow/schemas`` are generated from here
(``python -m penumbra.config.schema``), never written by hand.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from penumbra import parts
from penumbra.config.explain import explain

NAME = r"^[A-Za-z][A-Za-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=60)]
DatasetId = Annotated[str, Field(pattern=NAME.removesuffix("$") + r"(\.[a-z][a-z0-9_-]*)?$", max_length=60)]
"""A data set by name, followed by a dot and its preset where that is not the usual one."""
PresetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=30)]
USUAL_PRESET = "published"
Shown = Annotated[str, Field(pattern=r"^[^$]*$")]
"""A text that figures show; between dollar signs they would take it for mathematics."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Side = Annotated[int, Field(ge=8)]
Millimetres = Annotated[float, Field(gt=0)]
ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
"""The order of the splines behind each way to interpolate labels."""


class Model(BaseModel):
    """A frozen model that refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(Model):
    """A part picked by name; every other key is an option of that part, checked against its ``build``."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "name" in value and "options" not in value:
            return {"name": value["name"], "options": {k: v for k, v in value.items() if k != "name"}}
        return value

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, **self.options}


def checked_options(kind: parts.Kind, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a part with its defaults filled in.

    Raises
    ------
    ValueError : there is no such part, or it has no such option, or not of that type.
    """
    if name not in parts.names(kind):
        raise ValueError(f"there is no {kind} named {name!r}; there are: {', '.join(parts.names(kind))}")
    model = parts.options_model(kind, name)
    try:
        return model.model_validate(options).model_dump()
    except ValidationError as error:
        raise ValueError(f"options of the {kind} {name}: " + "; ".join(explain(error, model))) from None


def part_of(kind: parts.Kind) -> Any:
    """The annotated type of a :class:`Part` of one kind, whose name and options are checked against the code."""

    def check(part: Part) -> Part:
        return Part(name=part.name, options=checked_options(kind, part.name, part.options))

    return Annotated[Part, AfterValidator(check)]


# ---------------------------------------------------------------- data sets


class Source(Model):
    """Where a data set's raw files come from.

    ``generated``: an embedded phantom, made by ``generator``. ``archive``: a tar or zip file at ``path``. ``folder``: a
    folder at ``path``. ``url``: an archive fetched from ``url`` and checked against ``sha256``.
    """

    kind: Literal["generated", "archive", "folder", "url"]
    generator: Name | None = None
    options: dict[str, Any] = {}
    path: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Source:
        needed = {"generated": "generator", "archive": "path", "folder": "path", "url": "url"}[self.kind]
        if getattr(self, needed) is None:
            raise ValueError(f"a source of kind {self.kind!r} needs the key {needed!r}")
        if self.kind == "generated" and self.path is not None:
            raise ValueError(f"a generated data set has no path; take {self.path!r} out of `source` or of `data`")
        if self.kind == "url" and self.sha256 is None:
            raise ValueError("a source of kind 'url' needs the key 'sha256', so that what was fetched can be checked")
        if self.generator is not None:
            checked_options("phantom", self.generator, self.options)
        return self


class Raters(Model):
    """Who annotated. ``identified``: rater k is the same person on every slice and in every case."""

    count: Annotated[int, Field(ge=1)]
    identified: bool = True


def _two_or_three(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(value) not in (2, 3):
        raise ValueError(f"give two numbers for slices, or three for volumes, got {len(value)}")
    return value


class Geometry(Model):
    """How cases are brought onto one grid: spacing in mm (null: the native one), then centred crop or pad.

    Two numbers each: cases are cut into slices along z, resampled in plane only. Three: they stay whole volumes, and a
    spacing of three resamples z too. ``region: nonzero`` looks only at voxels in which some contrast is not 0.
    """

    spacing: Annotated[tuple[Millimetres, ...], AfterValidator(_two_or_three)] | None = None
    crop: Annotated[tuple[Side, ...], AfterValidator(_two_or_three)]
    image_order: Annotated[int, Field(ge=0, le=5)] = 2
    label_order: Annotated[int, Field(ge=0, le=5)] = 1
    normalisation: Literal["joint", "per_contrast"] = "joint"
    region: Literal["all", "nonzero"] = "all"

    @model_validator(mode="after")
    def _agree(self) -> Geometry:
        if self.spacing is not None and len(self.spacing) > len(self.crop):
            raise ValueError("a spacing of three numbers needs a crop of three: slices are not resampled along z")
        return self

    @property
    def volumetric(self) -> bool:
        """Whether cases stay whole volumes."""
        return len(self.crop) == 3


class Lesions(Model):
    """How lesions are counted, see :mod:`penumbra.metrics.lesions`; ``size_edges`` in voxels part them into bins."""

    convention: Literal["released", "text"] = "released"
    overlap: Annotated[int, Field(ge=1)] = 3
    size_edges: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (20, 100)
    connectivity: Literal[6, 18, 26] = 18
    wrap_labels: bool = False

    @field_validator("size_edges")
    @classmethod
    def _rise(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(high <= low for low, high in pairwise(value)):
            raise ValueError(f"sizes must rise, got {list(value)}")
        return value


class Evaluation(Model):
    """Which fusions the predictions are held against, how they become binary, and what is measured.

    Components of fewer than ``remove_small`` voxels are taken out of binary prediction and hard reference before any
    metric of both. ``readers`` holds prediction and samples against every reader
    besides. ``last_bin`` and ``squared_error`` say which of two conventions tables show; both are measured.
    """

    hard_reference: Name = "staple"
    soft_reference: Name = "average"
    binarisation: Literal["threshold", "argmax"] = "threshold"
    threshold_step: Annotated[float, Field(gt=0, lt=1)] = 0.05
    discard_below: Fraction = 0.01
    remove_small: Annotated[int, Field(ge=0)] = 0
    lesions: Lesions | None = None
    readers: bool = False
    last_bin: Literal["open", "closed"] = "open"
    squared_error: Literal["depthless", "voxels"] = "depthless"


# ---------------------------------------------------------------- candidates


class Labels(Model):
    """The training label: a fusion, kept soft or binarised after preprocessing and again after augmentation.

    ``interpolation`` resamples it otherwise than the data set's ``geometry.label_order`` does.
    ``smoothing`` s then mixes it with the uniform label: (1 - s) t + s / (K + 1), in training only.
    """

    fusion: Name
    encoding: Literal["hard", "soft"]
    interpolation: Literal["nearest", "linear", "cubic"] | None = None
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Flips(Model):
    """With ``chance`` each of some axes is turned round, by itself or ``together`` with the others."""

    chance: Fraction = 0.5
    axes: Annotated[tuple[Annotated[int, Field(ge=0, le=2, strict=True)], ...], Field(min_length=1)] = (0, 1)
    together: bool = False

    @field_validator("axes")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"axes must differ from each other, got {list(value)}")
        return value


class Elastic(Model):
    """With ``chance`` a smooth displacement: points ``spacing`` voxels apart move by up to ``amplitude`` voxels."""

    chance: Fraction = 0.5
    amplitude: Annotated[float, Field(gt=0)] = 5.0
    spacing: Annotated[float, Field(ge=2)] = 20.0


class Intensity(Model):
    """With ``chance`` each contrast is scaled, normally about 1, and shifted by an amount from a range."""

    chance: Fraction = 0.5
    scale_deviation: Annotated[float, Field(ge=0)] = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    @model_validator(mode="after")
    def _ordered(self) -> Intensity:
        if self.shift[0] > self.shift[1]:
            raise ValueError(f"shift is a range from the smaller to the larger, got {list(self.shift)}")
        if self.scale_deviation == 0 and self.shift == (0, 0):
            raise ValueError("without scale_deviation and shift it changes nothing; give one of them, or leave it out")
        return self


class Augmentation(Model):
    """Random changes of training items: an affine transformation, by default of all (thesis table 4.1), and where asked
    for turns by right angles in the plane of the first two axes, flips, elastic deformation, linear intensities."""

    chance: Fraction = 1.0
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 20.0
    translation: Fraction = 0.03
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    right_angles: Fraction = 0.0
    flips: Flips | None = None
    elastic: Elastic | None = None
    intensity: Intensity | None = None

    @model_validator(mode="after")
    def _bear(self) -> Augmentation:
        if self.crop < 1 and self.chance == 0:
            raise ValueError(
                "crop goes with the affine transformation, whose chance is 0; raise chance, or leave it out"
            )
        return self


class EarlyStopping(Model):
    """When to stop. ``reset_counter: false`` counts all epochs without improvement, as the released code does."""

    patience: Annotated[int, Field(ge=1)] = 50
    minimum_improvement_percent: Annotated[float, Field(ge=0)] = 0.001
    reset_counter: bool = False


class Patches(Model):
    """Random parts of the items that a training shows, instead of whole ones.

    ``size`` : sides of the part that is labelled, in voxels. ``context`` : how much of the image is shown beyond each
    of its sides. ``foreground`` : the chance that its middle is a voxel of foreground, else of background, each with
    equal chance. ``of_each`` : how many parts of an item an epoch shows.
    """

    size: Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_two_or_three)]
    context: Annotated[int, Field(ge=0)] = 0
    foreground: Fraction = 0.5
    of_each: Annotated[int, Field(ge=1)] = 1

    @property
    def shown(self) -> tuple[int, ...]:
        """Sides of what the network sees."""
        return tuple(side + 2 * self.context for side in self.size)


class Optimiser(Model):
    """How gradients move the weights, as ``torch.optim`` has it under these names; ``alpha`` and ``momentum`` are
    RMSprop's alone."""

    name: Literal["adam", "rmsprop"] = "adam"
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.99
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _bear(self) -> Optimiser:
        if self.name == "adam" and (self.alpha, self.momentum) != (0.99, 0.0):
            raise ValueError("alpha and momentum are options of rmsprop; leave them out, or say `name: rmsprop`")
        return self


class Milestones(Model):
    """The learning rate is multiplied by ``factor`` after each of these epochs."""

    epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Training(Model):
    """The optimisation; the best weights by validation loss are kept.

    ``schedule`` : how the learning rate falls: ``cosine`` to 0 over ``epochs``, ``constant``, or at milestones. At the
    epochs of ``progression``, the prediction of one validation slice is kept, and at the last one besides.
    ``gradient_accumulation`` : in how many parts a batch passes through the network; ``auto`` starts with one and takes
    twice as many whenever memory is used up.
    """

    epochs: Annotated[int, Field(ge=1)] = 200
    batch_size: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    optimiser: Optimiser = Optimiser()
    schedule: Literal["cosine", "constant"] | Milestones = "cosine"
    patches: Patches | None = None
    slices_per_epoch: Annotated[int, Field(ge=1)] | None = None
    early_stopping: EarlyStopping = EarlyStopping()
    augmentation: Augmentation | None = Augmentation()
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_accumulation: Literal["never", "auto"] | Annotated[int, Field(ge=1)] = "never"
    progression: tuple[Annotated[int, Field(ge=1)], ...] = ()
    torch_threads: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> Training:
        parts = self.gradient_accumulation
        if isinstance(parts, int) and parts > self.batch_size:
            raise ValueError(
                f"gradient_accumulation: {parts} parts cannot be made of a batch of {self.batch_size}; "
                "lower it, or raise batch_size"
            )
        return self


class Members(Model):
    """How many networks a candidate has; they differ in their initialisation and order of data."""

    count: Annotated[int, Field(ge=1)] = 1


class Candidate(Model):
    """A complete recipe: labels, network, activation, loss, training, members and predictor.

    ``label`` is how tables and figures call it; without one it is called by its name. With ``trained_as`` its networks
    are those of another candidate, whose recipe it has but for the predictor.
    """

    label: Shown = ""
    trained_as: Name | None = None
    labels: Labels
    network: part_of("network")  # type: ignore[valid-type]
    head: part_of("head") = Part(name="logits")  # type: ignore[valid-type]
    activation: part_of("activation")  # type: ignore[valid-type]
    loss: part_of("loss")  # type: ignore[valid-type]
    training: Training = Training()
    members: Members = Members()
    predictor: part_of("predictor") = Part(name="single_pass")  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _latent_variables(self) -> Candidate:
        latent = parts.constant("network", self.network.name, "LATENT", False)
        if latent != parts.constant("loss", self.loss.name, "NEEDS_LATENT", False):
            networks = [n for n in parts.names("network") if parts.constant("network", n, "LATENT", False)]
            losses = [n for n in parts.names("loss") if parts.constant("loss", n, "NEEDS_LATENT", False)]
            raise ValueError(
                f"the network {self.network.name} {'has' if latent else 'has no'} latent variables, the loss "
                f"{self.loss.name} is {'not ' if latent else ''}for such networks; those networks "
                f"({', '.join(networks)}) and those losses ({', '.join(losses)}) go together"
            )
        if latent and self.head.name != "logits":
            raise ValueError(f"the network {self.network.name} gives its distribution itself; right: head: logits")
        if latent and self.training.patches is not None:
            raise ValueError(f"the network {self.network.name} sees whole slices; right: no training.patches")
        if latent and self.predictor.options.get("window") is not None:
            raise ValueError(f"the network {self.network.name} sees whole slices; right: a predictor without a window")
        if latent and self.training.gradient_accumulation not in ("never", 1):
            raise ValueError(
                f"batches of the network {self.network.name} pass as a whole; right: gradient_accumulation: never"
            )
        return self

    @model_validator(mode="after")
    def _distribution(self) -> Candidate:
        latent = parts.constant("network", self.network.name, "LATENT", False)
        normal = parts.constant("head", self.head.name, "NORMAL", False)
        heads = ", ".join(n for n in parts.names("head") if parts.constant("head", n, "NORMAL", False))
        whose = f"under candidates.{self.trained_as}, head: {heads}" if self.trained_as else f"head: {heads}"
        for kind, part in (("loss", self.loss), ("predictor", self.predictor)):
            if parts.constant(kind, part.name, "NEEDS_DISTRIBUTION", False) and not (latent or normal):
                raise ValueError(f"the {kind} {part.name} needs a distribution over logits; right: {whose}")
        neutrals = parts.constant("predictor", self.predictor.name, "OF_A_NORMAL", None) or {}
        for option, neutral in neutrals.items():
            if self.predictor.options.get(option, neutral) != neutral and not normal:
                raise ValueError(f"predictor.{option} is for a normal distribution over logits alone; leave it out")
        return self


class Dataset(Model):
    """What the stages after the raw files need to know of a data set."""

    title: Shown = ""
    contrasts: Annotated[list[Name], Field(min_length=1)]
    classes: Annotated[list[Name], Field(min_length=1)]
    raters: Raters
    geometry: Geometry
    evaluation: Evaluation = Evaluation()

    @field_validator("contrasts", "classes")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"names must differ from each other, got {value}")
        return value

    @field_validator("classes")
    @classmethod
    def _not_image(cls, value: list[str]) -> list[str]:
        if "image" in value:
            raise ValueError("a class cannot be named 'image', which stands for the whole image in all metrics")
        return value


class DatasetFile(Dataset):
    """A file of ``config/datasets``: also where a data set comes from, how it is read and split.

    ``recipe`` is laid over every candidate that runs on this data set (depth, learning rate, batch size, ...).
    ``presets`` holds what else a preset of ``config/choices.yaml`` changes for this data set, by the preset's name.
    ``published`` is what ``config/published`` calls the data set, where that is not its name.
    """

    licence: str
    access: Literal["embedded", "open", "on request"]
    citation: str = ""
    published: Name | None = None
    source: Source
    adapter: part_of("adapter")  # type: ignore[valid-type]
    split: part_of("split")  # type: ignore[valid-type]
    recipe: dict[str, Any] = {}
    presets: dict[PresetName, dict[str, Any]] = {}


# ---------------------------------------------------------------- choices


SHARED = "raw files and cases are the same under all presets"
PRESET_KEYS = ("geometry", "evaluation", "split", "recipe")
"""What of a data set a preset may change: what comes after its cases, which all presets share."""


def _checked_choice(choice: Choice) -> None:
    """Refuse a key that there is not, and values that it does not take."""
    for key in choice.keys:
        kind, *rest = key.split(".")
        if choice.of == "dataset" and kind not in PRESET_KEYS[:-1]:
            raise ValueError(f"key {key!r} lies before the cases of a data set, and {SHARED}")
        if kind in ("network", "head", "activation", "loss", "predictor", "split"):
            if len(rest) != 2:
                raise ValueError(f"key {key!r}: right: {kind}.<part>.<option>")
            for value in choice.values.values():
                checked_options(kind, rest[0], {rest[1]: value})  # type: ignore[arg-type]
            continue
        model: Any = Dataset if choice.of == "dataset" else Candidate
        for step in (kind, *rest):
            fields = getattr(model, "model_fields", {})
            if step not in fields:
                raise ValueError(
                    f"key {key!r}: there is no {step!r}; there are: {', '.join(fields) or 'no keys below'}"
                )
            field = fields[step]
            inner = [a for a in (field.annotation, *get_args(field.annotation)) if hasattr(a, "model_fields")]
            model = inner[0] if inner else None
        if model is not None:
            raise ValueError(f"key {key!r} holds several keys; name one of them: {', '.join(model.model_fields)}")
        for value in choice.values.values():
            try:
                TypeAdapter(field.annotation).validate_python(value)
            except ValidationError as error:
                raise ValueError(f"key {key!r} does not take {value!r}: {error.errors()[0]['msg']}") from None


class Choice(Model):
    """A point at which a paper's text and its released code part, or both leave something to be wished.

    ``key`` is the place in a data set (``geometry.normalisation``, ``split.<part>.<option>``) or in a candidate
    (``training.early_stopping.reset_counter``, ``loss.<part>.<option>``), or a list of places of which each bears
    where its part is used; ``values`` has one for each preset. ``needs`` names a key that must be given for the choice
    to bear.
    """

    title: str
    of: Literal["dataset", "candidate"]
    key: str | list[str]
    needs: str | None = None
    values: dict[PresetName, Any]
    note: str
    source: str

    @property
    def keys(self) -> list[str]:
        """All places."""
        return [self.key] if isinstance(self.key, str) else self.key

    @model_validator(mode="after")
    def _sound(self) -> Choice:
        _checked_choice(self)
        return self


class Choices(Model):
    """``config/choices.yaml``: the presets, each described in a sentence, and the choices that they make."""

    presets: dict[PresetName, str]
    choices: dict[Name, Choice]

    @model_validator(mode="after")
    def _complete(self) -> Choices:
        if USUAL_PRESET not in self.presets:
            raise ValueError(f"there must be a preset {USUAL_PRESET!r}")
        for name, choice in self.choices.items():
            if set(choice.values) != set(self.presets):
                raise ValueError(f"{name}: `values` must hold one for each preset: {', '.join(self.presets)}")
        keys = [key for choice in self.choices.values() for key in choice.keys]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"two choices decide on {', '.join(sorted(twice))}")
        return self


# ---------------------------------------------------------------- studies


class StudyDataset(Model):
    """One data set of a study under one preset of ``config/choices.yaml``, and how many splits of it are trained."""

    name: Name
    splits: Annotated[int, Field(ge=1)]
    preset: PresetName = USUAL_PRESET

    @property
    def id(self) -> str:
        """How paths, tables and figures call it: ``scgm``, or ``scgm.text`` under a preset other than the usual."""
        return self.name if self.preset == USUAL_PRESET else f"{self.name}.{self.preset}"


class Exhibit(Model):
    """One table or figure: a part that draws it, over some of the study's data sets."""

    part: str
    title: str
    datasets: Annotated[list[DatasetId], Field(min_length=1)] | None = None
    options: dict[str, Any] = {}


class Study(Model):
    """One paper's experiment: data sets x candidates x splits, a reference candidate, claims, tables and figures.

    ``claims`` names a file of ``config/claims``.
    """

    title: str
    paper: str
    datasets: Annotated[list[StudyDataset], Field(min_length=1)]
    candidates: Annotated[list[Name], Field(min_length=1)]
    reference: Name
    published: str | None = None
    claims: Name | None = None
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05
    tables: dict[Name, Exhibit] = {}
    figures: dict[Name, Exhibit] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if self.reference not in self.candidates:
            raise ValueError(f"reference {self.reference!r} is not among the candidates {self.candidates}")
        for key, names in (("candidates", self.candidates), ("datasets", [d.id for d in self.datasets])):
            if len(set(names)) != len(names):
                raise ValueError(f"{key}: each may be named once, got {names}")
        known = {d.id for d in self.datasets}
        kinds: tuple[tuple[parts.Kind, dict[str, Exhibit]], ...] = (("table", self.tables), ("figure", self.figures))
        for kind, exhibits in kinds:
            for name, exhibit in exhibits.items():
                try:
                    checked_options(kind, exhibit.part, exhibit.options)
                except ValueError as error:
                    raise ValueError(f"{kind} {name!r}: {error}") from None
                unknown = set(exhibit.datasets or ()) - known
                if unknown:
                    raise ValueError(f"{kind} {name!r} names data sets that the study does not have: {sorted(unknown)}")
        return self


class Settings(Model):
    """``config/config.yaml``: what runs by default, where, and on what device."""

    studies: Annotated[list[Name], Field(min_length=1)]
    results: str = "results"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 2022
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = True
    data: dict[Name, str] = {}
    datasets: dict[Name, dict[str, Any]] = {}
    candidates: dict[Name, dict[str, Any]] = {}

    @field_validator("studies")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))

    @field_validator("results")
    @classmethod
    def _plain(cls, value: str) -> str:
        path = PurePosixPath(os.path.expanduser(value))
        if ".." in path.parts or not path.name or any(c in value for c in "{}*?[]\n"):
            raise ValueError("name a folder of its own, without '..' and any of {}*?[]")
        return str(path)
