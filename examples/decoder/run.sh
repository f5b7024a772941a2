#!/usr/bin/env bash
# Makes a scorer from a text, builds an artifact that decodes with it, and measures both.
#
#     run.sh [key=value ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
demo=$here/../../asrbuild/demo

asrbuild scorer build --text "$here/corpus.txt" --alphabet "$demo/alphabet.txt" -o prompts.scorer
asrbuild inspect scorer prompts.scorer
asrbuild --config-dir "$here/conf" decoder=prompts decoder.scorer_path=prompts.scorer \
  model=static name=prompts "$@"
asrbuild evaluate prompts "$demo/dev/dev.csv" --decoder greedy,ds_ctcdecoder
