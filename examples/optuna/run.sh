#!/usr/bin/env bash
# Searches for the demo package that is smallest and makes the fewest word errors.
#
#     run.sh [key=value ...]
set -euo pipefail

asrbuild -m hydra/sweeper=optuna hydra.sweeper.n_trials=6 hydra.sweep.dir=search \
  model=dynamic_to_static n_steps=16,32 coreml.compress=none,int8,palettize_6 \
  'tune.returns=[set_wer,package_bytes]' verify.evaluation=demo:dev/dev.csv "$@"
cat search/optimization_results.yaml
