#!/usr/bin/env bash
# Makes the folder of an app: the sample, ASRKit, and the artifact that it listens with.
#
#     run.sh ARTIFACT [FOLDER [ADDRESS PUBLISHER.pub [CHANNEL]]]
#
# ADDRESS is where `asrbuild ship` put newer versions, as https; what PUBLISHER.pub signed is taken from there.
set -euo pipefail

sample=$(cd "$(dirname "$0")" && pwd)
artifact=${1:?name an artifact, for example demo-static-mlprogram}
folder=${2:-dictation}
address=${3:-}
publisher=${4:-}
channel=${5:-stable}
if [ -n "$address" ] && [ ! -f "$publisher" ]; then
  echo "name the publisher's public key, such as publisher.pub" >&2
  exit 2
fi

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
if [ -n "$address" ]; then
  cp "$publisher" "$resources/publisher.pub"
  python3 - "$folder/manifest.json" "$address" "$channel" >"$resources/delivery.json" <<'END'
import json
import sys

manifest, address, channel = sys.argv[1:]
with open(manifest, encoding="utf-8") as file:
    name = json.load(file)["name"]
print(json.dumps({"name": name, "channel": channel, "address": address}))
END
fi
echo "open $folder/Dictation.swiftpm with Xcode"
