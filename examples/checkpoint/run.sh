#!/usr/bin/env bash
# Builds, proves and tries an artifact from a training checkpoint.
#
#     run.sh [CHECKPOINT [key=value ...]]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
demo=$here/../../asrbuild/demo
checkpoint=${1:-$demo/checkpoint}

asrbuild inspect source "$checkpoint"
asrbuild --config-dir "$here/conf" source=mine source.checkpoint_dir="$checkpoint" \
  model=static name=mine "${@:2}"
asrbuild transcribe mine "$demo/second.wav"
