"""The `lazydiffusion` program: options are declared here, the work is in `commands`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lazydiffusion import __version__
from lazydiffusion.commands import help_texts
from lazydiffusion.commands.standard_output import told_if_full
from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.protocol import EditSettings

BAD_INPUT = 2
"""Exit code of an error that the user can mend."""


class _Program(typer.core.TyperGroup):
    """Every expected error becomes one line on stderr and exit code 2, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        _spin_little()
        try:
            with told_if_full():
                return super().invoke(ctx)
        except LazyDiffusionError as error:
            typer.echo(f"lazydiffusion: {' '.join(str(error).split())}", err=True)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            typer.echo("lazydiffusion: cancelled, nothing was written.", err=True)
            sys.exit(130)


app = typer.Typer(
    cls=_Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Generative fill whose cost follows the selection, not the canvas.",
)
data = typer.Typer(no_args_is_help=True, help="Training data.")
app.add_typer(data, name="data")
models = typer.Typer(invoke_without_command=True)
app.add_typer(models, name="models")

Model = Annotated[str, typer.Option(metavar="NAME_OR_PATH", help="A model's name, a folder or a hub id.")]
Device = Annotated[str, typer.Option(metavar="auto|cuda|cpu", help="Where the model runs.")]
Weights = Annotated[
    str,
    typer.Option(
        metavar="full|int8|fp8",
        help="Bits of flux2-klein's weights: eight take half the memory (extra `small`).",
    ),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps; the model's own number by default.")]
HeldOut = Annotated[Path, typer.Option(help="Folder of the training set; only its held-out part is used.")]
Vocabulary = Annotated[str, typer.Option(help="Only scenes of its things: objects, or a TOML file of names.")]
Guidance = Annotated[float | None, typer.Option(help="How closely to follow the prompt; 1 is off.")]


def _spin_little() -> None:
    """Have torch's threads wait for each other as on a computer that others use too. Before torch is loaded.

    Else they spin for milliseconds, and beside any busy program, such as a painting one, an edit takes several times as
    long: docs/bench/README.md has the figures. 1000 turns are what libgomp itself chooses where it sees more threads
    than cores; it cannot see other programs'.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _show_version(shown: bool) -> None:
    if shown:
        typer.echo(f"lazydiffusion {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Generative fill whose cost follows the selection, not the canvas."""


@app.command()
def fill(
    canvas: Annotated[Path, typer.Argument(help="The picture.")],
    mask: Annotated[Path, typer.Option(help="Picture of the same size; generate where it is not black.")],
    out: Annotated[Path, typer.Option(help="The result; OUT-1, OUT-2, ... with --variations.")],
    prompt: Annotated[str, typer.Option(help="What to paint; empty continues what is around.")] = "",
    layer: Annotated[
        Path | None, typer.Option(help="Also write the fill alone, on a transparent canvas.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    sketch: Annotated[
        Path | None, typer.Option(help="Rough colours or lines of the same size, RGBA.")
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Below 1: start from the sketch, or from what is under the mask.")
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same fill; random by default.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    variations: Annotated[int, typer.Option(help="How many fills to make.")] = 1,
    feather: Annotated[int, typer.Option(metavar="PX", help="Soft border inside the mask.")] = 0,
    grow: Annotated[int, typer.Option(metavar="PX", help="Grow the mask first.")] = 0,
    blend: Annotated[
        bool, typer.Option("--blend", help="Match colours at the border (extra `blend`).")
    ] = False,
    model: Model = "clipart",
    engine: Annotated[
        str,
        typer.Option(
            help="auto follows from the model: lazy, flux2-klein, regenerate-image, regenerate-crop, diffusers."
        ),
    ] = "auto",
    view: Annotated[
        str | None,
        typer.Option(
            help="What diffusers is shown: window (by default), crop (the mask alone), canvas (everything). How "
            "flux2-klein sees it: cached (by default), refreshed, full; diffusers, diffusers-crop, diffusers-canvas: "
            "by their own pipeline."
        ),
    ] = None,
    device: Device = "auto",
    weights: Weights = "full",
    via_core: Annotated[
        bool, typer.Option("--via-core", help="Let the resident core do it: no loading after the first time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Fill what MASK covers of CANVAS."""
    from lazydiffusion.commands import fill as command

    settings = EditSettings(
        prompt=prompt,
        negative_prompt=negative,
        seed=command.random_seed() if seed is None else seed,
        steps=steps,
        guidance=guidance,
        strength=strength,
        variations=variations,
        feather=feather,
        grow=grow,
        blend=blend,
        model=model,
    )
    files = command.Files(canvas=canvas, mask=mask, out=out, layer=layer, sketch=sketch)
    loading = command.Loading(engine=engine, view=view, device=device, weights=weights)
    command.run(files, settings, loading, via_core=via_core, as_json=as_json)


@app.command(help=help_texts.PLAY)
def play(
    script: Annotated[Path, typer.Argument(help="TOML: a canvas and a list of edits.")],
    out: Annotated[Path, typer.Option(help="Folder for one picture per edit.")],
    model: Model = "clipart",
    device: Device = "auto",
) -> None:
    """Generate a picture progressively, one edit after the other."""
    from lazydiffusion.commands import play as command

    command.run(script, out, model, device)


@app.command()
def serve(
    tcp: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Listen on loopback TCP; port 0 takes a free one."),
    ] = None,
    socket: Annotated[Path | None, typer.Option(metavar="PATH", help="Listen on this Unix socket.")] = None,
    model: Model = "clipart",
    device: Device = "auto",
    idle_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="End after so long without use; 0: never.")
    ] = 1800,
    history: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where finished fills are kept.")
    ] = None,
    weights: Weights = "full",
) -> None:
    """Be the resident core that holds the models for the editors. They start it by themselves."""
    from lazydiffusion.commands import serve as command

    sys.exit(command.serve(tcp, socket, model, device, idle_timeout, history, weights))


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say whether the resident core runs, where, and what it does."""
    from lazydiffusion.commands import serve as command

    sys.exit(command.status(as_json))


@app.command()
def stop() -> None:
    """End the resident core. Finished fills stay in its history."""
    from lazydiffusion.commands import serve as command

    sys.exit(command.stop())


@app.command()
def connect() -> None:
    """Tell this user's editors that the core is installed here."""
    from lazydiffusion.commands import serve as command

    command.connect_editors()


@models.callback()
def models_list(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List the models that --model can name; or, with `pull`, download one."""
    if context.invoked_subcommand is None:
        from lazydiffusion.commands import models as command

        command.run(as_json)


@models.command("pull")
def models_pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME|OWNER/REPO", help="A known name, flux2-klein, or any hub id.")
    ],
    revision: Annotated[
        str | None, typer.Option(help="A commit, tag or branch of it; the main branch by default.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Download without asking.")] = False,
) -> None:
    """Download a model from the Hugging Face hub, after saying its licence and size. Run again, it resumes."""
    from lazydiffusion.commands import models_pull as command

    command.run(name, revision, yes)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say what is installed, which device is used and why, and what to do about what is not right."""
    from lazydiffusion.commands import doctor as command

    sys.exit(0 if command.run(as_json) else 1)


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(help="A TOML file, or a packaged configuration: clipart, cpu, ...")
    ],
    init_from: Annotated[
        Path | None, typer.Option(help="Start from this checkpoint's weights alone.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    engine: Annotated[
        str | None,
        typer.Option(help="Train a baseline on the same scenes: regenerate-image or regenerate-crop."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="End after so many steps, whatever the configuration says.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="End after this time in the loop; the learning rates fall by this clock."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder, in place of the configuration's.")
    ] = None,
) -> None:
    """Train a model. Start it with `accelerate launch -m lazydiffusion train CONFIG` for several processes."""
    from lazydiffusion.commands import train as command

    command.run(config, init_from, resume, engine, steps, minutes, out)


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="A run's `ema` folder.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new checkpoint.")],
    steps: Annotated[int, typer.Option(help="Default number of steps, 1 to 200.")] = 20,
    guidance: Annotated[float, typer.Option(help="Default guidance, 0 to 20.")] = 2.5,
    engine: Annotated[
        str, typer.Option(help="What the weights were trained for: lazy, regenerate-image, regenerate-crop.")
    ] = "lazy",
) -> None:
    """Make a checkpoint (bf16, with hashes) of trained weights."""
    from lazydiffusion.commands import export as command

    command.run(weights, out, steps, guidance, engine)


@app.command()
def evaluate(
    out: Annotated[Path, typer.Option(help="Folder for results.json, table.md and contact-sheet.png.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model (name, folder or hub id); again for each one to be held against the first."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="The engine that all the models must be for.")] = "auto",
    data: HeldOut = Path("data/clipart"),
    vocabulary: Vocabulary = "",
    n: Annotated[int, typer.Option("--n", metavar="N", help="How many scenes.")] = 200,
    seeds: Annotated[int, typer.Option(help="Fills of each scene; below 2 there is no diversity.")] = 2,
    sketched: Annotated[int, typer.Option(help="How many scenes are filled again with sketches.")] = 0,
    features: Annotated[
        str, typer.Option(help="efficientnet-lite0, or the path of the FID's Inception weights (.pth).")
    ] = "efficientnet-lite0",
    clip: Annotated[
        Path | None, typer.Option(help="Folder of a CLIP of transformers; else a small one is trained.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps sprites, features and what is trained on them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
    device: Device = "auto",
) -> None:
    """Compare models on held-out scenes: realism, prompt, style, borders, diversity, sketches."""
    from lazydiffusion.commands import evaluate as command

    command.run(
        command.Options(
            model or ["clipart"], data, out, n, engine=engine, seeds=seeds, sketched=sketched, features=features,
            clip=clip, cache=cache, seed=seed, vocabulary=vocabulary, device=device,
        )
    )  # fmt: skip


@app.command()
def compare(
    model: Annotated[
        list[str],
        typer.Option(
            metavar="NAME_OR_PATH[@VIEW]",
            help="Two or more. VIEW: as for `fill --view`, so that a model can be held against itself.",
        ),
    ],
    cases: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="A folder for each case: canvas.png, mask.png, prompt.txt, and if you like negative.txt, sketch.png.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="For sheet.png, sheets/, table.md, results.json.")],
    seeds: Annotated[int, typer.Option(help="Fills of each case.")] = 2,
    clip: Annotated[
        Path | None, typer.Option(help="Folder of a CLIP of transformers, to judge fills by the prompt.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = "auto",
) -> None:
    """Fill your own pictures with several models, side by side, and say which is better at what."""
    from lazydiffusion.commands import compare as command

    command.run(model, cases, out, seeds, steps=steps, guidance=guidance, clip=clip, device=device)


@app.command()
def sweep(
    out: Annotated[Path, typer.Option(help="Folder for the report and its pictures.")],
    data: HeldOut = Path("data/clipart"),
    scenes: Annotated[int, typer.Option(help="How many held-out scenes.")] = 64,
    vocabulary: Vocabulary = "",
    card: Annotated[Path | None, typer.Option(help="Model card whose figures are replaced.")] = None,
    model: Model = "clipart",
    device: Device = "auto",
) -> None:
    """Measure one model's seams by steps and guidance, for its card."""
    from lazydiffusion.commands import sweep as command

    command.run(model, data, out, device, scenes, card, vocabulary)


@app.command()
def bench(
    out: Annotated[Path, typer.Option(help="Folder for results.json, table.md and the figures.")],
    config: Annotated[
        str,
        typer.Option(
            help="clipart or another lazy checkpoint, or with random weights of the published size: paper, "
            "flux2-klein-4b."
        ),
    ] = "clipart",
    masks: Annotated[
        str | None,
        typer.Option(help="Masks in shares of the window: 0.01,0.05,0.1,0.25,0.5,1.0 (klein: not 1.0)."),
    ] = None,
    canvas: Annotated[
        str | None,
        typer.Option(
            metavar="PX,...", help="Sides of square canvases, 1024,2048,4096,8192; may be empty (klein: is)."
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Numbers of denoising steps: 4,20,50, for klein 4.")
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            help="What is compared; leave out what takes too long: lazy,regenerate-image,regenerate-crop, for klein "
            "cached,refreshed,full,diffusers,diffusers-crop, of which the first is timed at every mask."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs of each case; medians and quartiles count.")] = 5,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the transformers' blocks first: minutes.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Measure time, memory and operations of the engines, side by side in one run."""
    from lazydiffusion.commands import bench as command

    options = command.Options.of(
        config, repeats, device, compiled, masks=masks, canvas=canvas, steps=steps, engines=engines
    )
    command.run(options, out)


@data.command("clipart")
def data_clipart(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    work: Annotated[
        Path | None, typer.Option(help="Where packages are unpacked; a temporary folder by default.")
    ] = None,
    npm: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A node_modules folder that holds the packages: npm is not asked."),
    ] = None,
    openclipart: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Debian's openclipart-svg, unpacked by `dpkg -x`: apt-get is not asked."
        ),
    ] = None,
) -> None:
    """Rebuild the clip-art training set from the package registries."""
    from lazydiffusion.commands import data as command

    command.clipart(out, work, npm, openclipart)
