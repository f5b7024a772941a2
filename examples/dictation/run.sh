#!/usr/bin/env bash
# Makes the folder of an app: the sample, ASRKit, and the artifact that it listens with.
#
#     run.sh ARTIFACT [FOLDER]
set -euo pipefail

sample=$(cd "$(dirname "$0")" && pwd)
artifact=${1:?name an artifact, for example demo-static-mlprogram}
folder=${2:-dictation}

asrbuild app "$artifact" -o "$folder" --no-check
cp -R "$sample/Dictation.swiftpm" "$folder/"
resources=$folder/Dictation.swiftpm/Sources/Dictation/Resources
# Files of an artifact in an app begin with a name of their own: here `speech`.
cp "$folder/manifest.json" "$resources/speech.manifest.json"
for model in "$folder"/*.mlpackage "$folder"/*.mlmodel; do
  if [ -e "$model" ]; then cp -R "$model" "$resources/speech.${model##*.}"; fi
done
for scorer in "$folder"/*.scorer; do
  if [ -e "$scorer" ]; then cp "$scorer" "$resources/speech.${scorer##*/}"; fi
done
echo "open $folder/Dictation.swiftpm with Xcode"
