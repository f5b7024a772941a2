"""``tune=scorer``: searches for a scorer's best weights and beam width on a development set.

The recipe is built, its probabilities for the set are computed once, and Optuna decodes them with
one set of values after another. It minimises the word error rate and the beam width: the width
decides the time and, unlike time, is the same in every run, so a seed gives the same trials
anywhere. The time of each trial is measured as well.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import existing_file
from asrbuild.base.libraries import install_fix
from asrbuild.base.places import DEMO_PREFIX
from asrbuild.base.progress import Progress, bars
from asrbuild.builder.engine import Built, build
from asrbuild.builder.recipe import Recipe, TuneConfig
from asrbuild.builder.rules import check_keys
from asrbuild.handover.report.tuning import Trial, Tuning

if TYPE_CHECKING:
    from asrbuild.artifact import manifest as m
    from asrbuild.proof.evaluation import SetResult, Spoken
    from asrbuild.speech.dataset import Recording
    from asrbuild.speech.decoder_settings import DecoderSettings
    from asrbuild.speech.deepspeech_decoder.decoder import DeepSpeechDecoder
    from asrbuild.speech.tokens import Tokens

CONFIG = Path("decoder", "tuned.yaml")
PAGE, RECORD = "tuning.html", "tuning.json"


def tune(
    recipe: Recipe, overrides: Sequence[str], progress: Progress, *, move_latest: bool = True
) -> Built:
    """Builds the recipe, runs the search, and writes its config, page and record.

    Raises:
        AsrbuildError: there is nothing to tune or to tune on, Optuna is not installed, or the build
            failed.
    """
    check_keys(recipe)
    if importlib.util.find_spec("optuna") is None:
        raise AsrbuildError(
            "tune=scorer requires Optuna, which is not installed",
            key="tune.target",
            fix=install_fix("tune"),
        )
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.artifact.runtime import decoder_settings, open_artifact
    from asrbuild.handover.report.tuning import print_tuning, write_page
    from asrbuild.proof.evaluation import listen, notes_text, spelled_by, words_folder
    from asrbuild.speech.dataset import dataset_digest, read_dataset

    data = existing_file(recipe.tune.data, "tune.data")
    whole = read_dataset(data)
    output = Path(recipe.tune.output)
    # Now, not after a search of an hour.
    with disk_errors("making the folder for what is tuned", output):
        (output / CONFIG).parent.mkdir(parents=True, exist_ok=True)
    built = build(replace(recipe, tune=TuneConfig()), overrides, progress, move_latest=move_latest)
    interpreter = recipe.decoder.interpreter
    manifest = read_manifest(built.path)
    settings = replace(
        decoder_settings(manifest),
        interpreter=None if interpreter is None else Path(interpreter).expanduser(),
    )
    cache = Path(recipe.paths.cache)
    option, count_all = "verify.count_unspelled=true", recipe.verify.count_unspelled
    with open_artifact(built.path, settings) as transcriber, bars() as shown:
        spelled = spelled_by([transcriber.alphabet], whole, count_all=count_all, option=option)
        dataset = spelled.counted
        if spelled.remark:
            progress.note(spelled.remark)
        task = shown.add_task("listening", total=len(dataset))
        spoken = listen(transcriber, dataset, cache, lambda: shown.advance(task))
        for note in notes_text(dataset, spoken):
            progress.note(note)
        task = shown.add_task("trials", total=recipe.tune.trials)
        trials = search(
            transcriber.decoder,  # type: ignore[arg-type]
            settings,
            recipe.tune,
            dataset,
            spoken,
            lambda: shown.advance(task),
            partial(words_folder, cache, transcriber),
            transcriber.alphabet,
        )
    tuning = Tuning(
        f"{built.receipt.name}/{built.receipt.version}",
        recipe.decoder.scorer_path or "",
        data.name,
        dataset_digest(whole),
        len(dataset),
        sum(len(recording.text.split()) for recording in dataset),
        tuple(trials),
    )
    with disk_errors("writing what was tuned", output):
        (output / CONFIG).write_text(
            config_text(tuning, recipe, manifest.decoder), encoding="utf-8"
        )
        (output / RECORD).write_text(json.dumps(record(tuning), indent=2) + "\n", encoding="utf-8")
    write_page(output / PAGE, tuning)
    print_tuning(tuning, output)
    return built


def search(
    decoder: DeepSpeechDecoder,
    settings: DecoderSettings,
    tune: TuneConfig,
    dataset: Sequence[Recording],
    spoken: Sequence[Spoken],
    advance: Callable[[], None] = lambda: None,
    folder: Callable[[DecoderSettings], Path | None] = lambda _: None,
    alphabet: Tokens | None = None,
) -> list[Trial]:
    """Runs the trials; returns them in order, the first with the values of ``settings``.

    Args:
        decoder: an open ds-ctcdecoder; it keeps the last trial's values.
        settings: the manifest's settings, with alpha and beta.
        tune: the ranges, the number of trials and the seed.
        dataset: the recordings with their expected transcripts.
        spoken: the probabilities of the recordings, in the same order.
        advance: called after each trial.
        folder: keeps the transcripts of each trial, so that an interrupted search continues.
        alphabet: the model's labels, see ``evaluation.decode``.
    """
    import optuna

    from asrbuild.proof.evaluation import decode

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=tune.seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    trials: list[Trial] = []
    for number in range(tune.trials):
        asked = None
        if number:
            asked = study.ask()
            values: dict[str, Any] = {
                "lm_alpha": asked.suggest_float("lm_alpha", *tune.lm_alpha, step=0.01),
                "lm_beta": asked.suggest_float("lm_beta", *tune.lm_beta, step=0.01),
                "beam_width": asked.suggest_int("beam_width", *tune.beam_width, log=True),
            }
            values = {name: round(value, 2) for name, value in values.items()}
        else:
            values = {key: getattr(settings, key) for key in ("lm_alpha", "lm_beta", "beam_width")}
        tried = replace(settings, **values)
        decoder.change(tried)
        result = decode(
            "", "", tried, decoder, dataset, spoken, kept=folder(tried), alphabet=alphabet
        )
        if asked is not None:
            study.tell(asked, [result.rates.wer, values["beam_width"]])
        trials.append(_trial(number, values, result))
        advance()
    return trials


def _trial(number: int, values: dict[str, Any], result: SetResult) -> Trial:
    rates = result.rates
    interval = (rates.wer_interval.low, rates.wer_interval.high)
    factor = result.decoder_s / result.audio_s if result.audio_s else 0.0
    return Trial(
        number, **values, wer=rates.wer, wer_interval=interval, cer=rates.cer, factor=factor
    )


def config_text(tuning: Tuning, recipe: Recipe, built: m.Decoder) -> str:
    """The best values as a config of the group ``decoder``, with the set that they were tuned on.

    ``built`` is the decoder of the artifact of the search.
    """
    import yaml

    from asrbuild.builder.describe import settings_digest

    best, first, decoder = tuning.best, tuning.trials[0], recipe.decoder
    weights = {"lm_alpha": best.lm_alpha, "lm_beta": best.lm_beta}
    scored = built.scorer.model_copy(update=weights) if built.scorer is not None else None
    found = built.model_copy(update={"beam_width": best.beam_width, "scorer": scored})
    scorer = decoder.scorer_path or ""
    if not scorer.startswith(DEMO_PREFIX):
        # Absolute, because the config may be used from another folder.
        scorer = str(Path(scorer).expanduser().resolve())
    values = asdict(decoder) | {
        "beam_width": best.beam_width,
        "scorer_path": scorer,
        "interpreter": None,  # the decoder's Python depends on the machine
        "lm_alpha": best.lm_alpha,
        "lm_beta": best.lm_beta,
        "tuned": {
            "data": tuning.data,
            "sha256": tuning.sha256,
            "recordings": tuning.recordings,
            "words": tuning.words,
            "wer": round(best.wer, 6),
            "trials": len(tuning.trials),
            "settings": settings_digest(found),
        },
    }
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return (
        f"# WER {best.wer:.1%} on {tuning.data}, {first.wer:.1%} before; made by "
        f"`asrbuild -m tune=scorer`.\n"
        f"# Use: asrbuild decoder=tuned --config-dir {recipe.tune.output}\n"
        f"{text}"
    )


def record(tuning: Tuning) -> dict[str, Any]:
    """All trials of the search, as JSON."""
    return {
        **asdict(tuning),
        "best": tuning.best.number,
        "front": [trial.number for trial in tuning.front],
    }
