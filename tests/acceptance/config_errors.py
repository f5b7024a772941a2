"""Impossible recipes, each with its error."""

from __future__ import annotations

#: (overrides, error as printed); {at} is the folder.
CONFIG_ERRORS = [
    (
        ["model=dinamic"],
        "model=dinamic is not a choice\n  key: model\n  fix: choose one of dynamic,"
        " dynamic_to_static, enumerated, exported, multifunction, static",
    ),
    (["modle=static"], "unknown key modle\n  key: modle\n  fix: did you mean model?"),
    (
        ["coreml.precison=fp32"],
        "unknown key coreml.precison\n  key: coreml.precison\n  fix: did you mean coreml.precision",
    ),
    (["+extra=1"], "unknown key extra\n  key: extra\n  fix: "),
    (
        ["n_steps=many"],
        "n_steps=many has the wrong type\n  key: n_steps\n  fix: give a whole number",
    ),
    (["n_steps=0"], "n_steps=0 must be at least 1\n  key: n_steps"),
    (
        ["coreml.precision=fp8"],
        "coreml.precision=fp8 is not a choice\n  key: coreml.precision\n"
        "  fix: choose one of fp16, fp32",
    ),
    (
        ["coreml.compress=int4"],
        "coreml.compress=int4 is not a choice\n  key: coreml.compress\n"
        "  fix: choose one of none, int8, palettize_6, palettize_4, prune",
    ),
    (
        ["coreml.compress_layers.layer_4=int8"],
        "unknown key coreml.compress_layers.layer_4\n"
        "  key: coreml.compress_layers.layer_4\n"
        "  fix: did you mean coreml.compress_layers.layer_6 or coreml.compress_layers.layer_5",
    ),
    (
        ["coreml.compress_layers.lstm=int2"],
        "coreml.compress_layers.lstm=int2 is not a choice\n  key: coreml.compress_layers.lstm",
    ),
    (["coreml.compress=prune", "coreml.sparsity=1"], "coreml.sparsity=1.0 is not between 0 and 1"),
    (
        ["coreml=neuralnetwork", "coreml.compress=int8"],
        "coremltools.optimize compresses ML "
        "programs, not neural networks\n  key: coreml.compress\n  fix: choose coreml=mlprogram",
    ),
    (
        ["coreml.compress=int8", "coreml.minimum_deployment_target=iOS15"],
        "compressed weights came with iOS16\n  key: coreml.minimum_deployment_target",
    ),
    (
        ["coreml.compress=int8", "~verify.thresholds.int8"],
        "verify.thresholds has no gates for int8\n  key: verify.thresholds.int8",
    ),
    (
        ["coreml.range_upper=null"],
        "an mlprogram cannot have an unbounded axis: "
        "model.steps.upper is empty\n  key: coreml.range_upper\n  fix: set coreml.range_upper=3000",
    ),
    (
        ["model=static", "export.n_steps=32"],
        "the graph is exported for 32 steps and cannot become "
        "16\n  key: export.n_steps\n  fix: set export.n_steps=-1",
    ),
    (
        ["model=enumerated", "model.steps.sizes=[16,16]"],
        "the enumerated steps have 2 entries (1 "
        "different); Core ML takes 1 to 128 different shapes",
    ),
    (
        ["model=multifunction", "coreml=neuralnetwork"],
        "a neuralnetwork has one function\n  key: model.functions",
    ),
    (
        ["coreml=neuralnetwork", "coreml.state=stateful"],
        "a neuralnetwork has no StateType\n  key: coreml.state",
    ),
    (
        ["coreml.state=stateful", "coreml.precision=fp32"],
        "Core ML states are fp16, so a stateful package is not fp32\n  key: coreml.precision",
    ),
    (
        ["model=multifunction", "coreml.minimum_deployment_target=iOS17"],
        "several functions in one "
        "package need an mlprogram for iOS18 or later\n  key: coreml.minimum_deployment_target\n"
        "  fix: set coreml=mlprogram coreml.minimum_deployment_target=iOS18",
    ),
    (
        ["coreml.frontend=tensorflow"],
        "coreml.frontend=tensorflow gives an LSTM as coremltools' loop\n"
        "  key: coreml.lstm\n  fix: set coreml.lstm=loop, or leave out coreml.frontend",
    ),
    (
        ["coreml.outputs=[new_state_c,new_state_h]"],
        "coreml.outputs=['new_state_c', 'new_state_h'] leaves out logits",
    ),
    (
        ["coreml.outputs=[logits,new_state_c,new_state_h,mfccs]"],
        "coreml.outputs asks for mfccs, "
        "which the proof does not compare\n  key: coreml.outputs\n  fix: choose from logits, "
        "new_state_c",
    ),
    (
        ["coreml.outputs=[logits,new_state_h]"],
        "coreml.outputs leaves out new_state_c, which the "
        "next call needs\n  key: coreml.outputs\n  fix: add it, or let the package keep its state",
    ),
    (
        ["source=checkpoint"],
        "source=checkpoint needs source.checkpoint_dir\n  key: source.checkpoint_dir",
    ),
    (["source=frozen_graph"], "source=frozen_graph needs source.path\n  key: source.path"),
    (
        ["source=checkpoint", "source.checkpoint_dir={at}/none"],
        "the checkpoint folder does not exist\n  key: source.checkpoint_dir\n  file: {at}/none",
    ),
    (
        ["source.alphabet_config_path={at}/none.txt"],
        "source.alphabet_config_path names no file\n"
        "  key: source.alphabet_config_path\n  file: {at}/none.txt",
    ),
    (
        ["decoder.scorer_path={at}/x.scorer"],
        "the greedy decoder uses no scorer and no hot words\n  key: decoder.scorer_path",
    ),
    (["verify.max_wer=-1"], "verify.max_wer=-1.0 is not a word error rate\n  key: verify.max_wer"),
    (["verify.inputs=[silence]"], "verify.inputs must hold sample"),
    (["name=../up"], "name='../up' cannot name a folder\n  key: name"),
    (
        ["coreml.sparsity=null"],
        "coreml.sparsity=null has the wrong type\n  key: coreml.sparsity\n"
        "  fix: give a number, not null",
    ),
    (
        ["n_steps=1,2"],
        "n_steps=1,2 is several values, and this is one build\n  key: n_steps\n  fix: add -m",
    ),
    (["=3"], "'=3' has no key"),
    (["model=static", "n_steps"], "n_steps is not an override\n  fix: write n_steps=value"),
    (
        ["source=frozen_graph", "source.path=my", "graph.pb"],
        "graph.pb is not an override\n"
        "  fix: a value with a space requires quotes: 'source.path=my graph.pb'",
    ),
    (
        ["-m", "n_steps=16", "32"],
        "32 is not an override\n  fix: write several values without spaces: n_steps=16,32",
    ),
    (
        ["-m", "n_steps=16,", "32"],
        "n_steps=16, is not an override\n  key: n_steps\n  fix: write n_steps=16,32",
    ),
    (
        ["coreml.outputs=[logits"],
        "coreml.outputs=[logits is not an override\n  key: coreml.outputs\n  fix: close every",
    ),
    (["-m", "n_steps=16,x"], "n_steps=x has the wrong type\n  key: n_steps\n"),
    (
        ["tune.returns=[werr]"],
        "tune.returns has werr, which is no figure of a build\n  key: tune.returns\n  fix: choose",
    ),
    (["tune.returns=[set_wer]"], "set_wer, which requires a data set\n  key: verify.evaluation\n"),
    (
        ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=x"],
        "hydra.sweeper.n_trials has the wrong type: Value 'x'",
    ),
    (["path=x.pb"], "unknown key path\n  key: path\n  fix: did you mean source.path?"),
    (
        ["source.checkpoint_dri=x"],
        "unknown key source.checkpoint_dri\n  key: source.checkpoint_dri\n"
        "  fix: did you mean source.checkpoint_dir?\n",
    ),
    (
        ["source.sample.audio="],
        "source.sample.audio has no value\n  key: source.sample.audio\n  fix: write source.sam",
    ),
    (
        ["source.sample.audio=demo:sampel.wav"],
        "source.sample.audio names no file; did you mean demo:sample.wav?\n"
        "  key: source.sample.audio\n  file: ",
    ),
    (
        ["source.sample.text=deom:sample.txt"],
        "source.sample.text names no file; did you mean demo:sample.txt?\n",
    ),
    (["verify.evaluation=demo:dev.csv"], "verify.evaluation names no file\n  key: verify.eval"),
    (["model="], "model= is not a choice\n  key: model\n  fix: choose one of dynamic"),
    (
        ["-m", "hydra/launcher=nope"],
        "hydra/launcher=nope is not a choice\n  key: hydra/launcher\n"
        "  fix: choose one of basic, joblib, ray, submitit_local, submitit_slurm",
    ),
    (
        ["model.steps=3"],
        "model.steps=3 has the wrong type\n  key: model.steps\n"
        "  fix: it is a section: set model.steps.kind",
    ),
    (["coreml={{a: 1}}"], "unknown key coreml.a\n"),
    (
        ["coreml.outputs=logits"],
        "coreml.outputs=logits has the wrong type\n  key: coreml.outputs\n  fix: give a list",
    ),
    (["coreml.precision=${{nope}}"], "Interpolation key 'nope' not found\n  key: coreml.precision"),
    (
        ["verify.thresholds.fp16.psnr_db=nan"],
        "psnr_db=nan is not a finite number\n  key: verify.thresholds.fp16.psnr_db",
    ),
    (
        ["export.feature_win_len=1", "export.feature_win_step=20"],
        "export.feature_win_len=1 ms is shorter than the step of 20 ms",
    ),
    (
        ["export.feature_win_len=25"],
        "export.feature_win_len=25 in the recipe, but the source states 32 (line 5 of",
    ),
    (["export.relu_clip=0"], "export.relu_clip=0.0 must be above 0"),
    (["paths.cache="], "paths.cache is empty\n  key: paths.cache"),
    (["name=☃"], "name='☃' cannot name a folder"),
    (["name=latest"], "name='latest' cannot name a folder"),
    (["name=_x"], "name='_x' cannot name a folder"),
    (["name=x."], "name='x.' cannot name a folder"),
    (["version=" + "1" * 81], "cannot name a folder\n  key: version\n  fix: use up to 80 letters"),
    (
        ["source=frozen_graph", "source.path={at}/é (1) a=b.pb"],
        "source.path names no file\n  key: source.path\n  file: {at}/é (1) a=b.pb",
    ),
    (
        ["--config-dir", "{at}/none"],
        "the config folder does not exist\n  key: --config-dir\n  file: {at}/none",
    ),
    (
        ["hydra.launcher.n_cpu=2"],
        "unknown key hydra.launcher.n_cpu\n  key: hydra.launcher.n_cpu\n"
        "  fix: choose the launcher that has it, for example hydra/launcher=joblib: `asrbuild "
        "hydra/launcher=joblib --cfg hydra -p hydra.launcher` prints its keys",
    ),
    (["cache", "why", "-m", "n_steps=1"], "-m has no meaning here: this looks at one recipe"),
    (
        ["verfy"],
        "verfy is neither a command nor an override\n  fix: did you mean `asrbuild verify`?",
    ),
]
