#!/usr/bin/env bash
# Builds four variants of the demo model, and compares the published ones on one page.
#
#     run.sh [key=value,value ...]
set -euo pipefail

asrbuild -m model=dynamic_to_static n_steps=16,32 coreml.compress=none,int8 "$@"
asrbuild ls
