"""Runs the genuine client and decoder on requests of the tests, in the Python 3.9 environment.

Reads a request as JSON on standard input, writes the answer as JSON on the last line of standard
output. ``{"model", "wavs", "pieces"}`` transcribes, whole and (unless ``pieces``, samples at a
time, is 0) streamed; ``{"probabilities", "alphabet", "beam_width"}`` decodes an npz of
(T, classes) arrays without a scorer.
"""

import json
import sys
import wave

import numpy as np


def read_wav(path):
    with wave.open(path) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def transcribe(request):
    import deepspeech

    try:
        model = deepspeech.Model(request["model"])
    except RuntimeError as error:
        return {"refused": str(error)}
    texts, streamed = [], []
    for path in request["wavs"]:
        samples = read_wav(path)
        texts.append(model.stt(samples))
        if not request["pieces"]:
            continue
        stream = model.createStream()
        for start in range(0, len(samples), request["pieces"]):
            stream.feedAudioContent(samples[start : start + request["pieces"]])
        streamed.append(stream.finishStream())
    return {
        "version": deepspeech.version(),
        "sample_rate": model.sampleRate(),
        "beam_width": model.beamWidth(),
        "texts": texts,
        "streamed": streamed,
    }


def decode(request):
    from ds_ctcdecoder import Alphabet, ctc_beam_search_decoder

    alphabet = Alphabet(request["alphabet"])
    texts = {}
    with np.load(request["probabilities"]) as stored:
        for name in stored.files:
            results = ctc_beam_search_decoder(
                stored[name].astype(np.float64), alphabet, request["beam_width"]
            )
            texts[name] = results[0][1]
    return {"texts": texts}


request = json.load(sys.stdin)
answer = transcribe(request) if "model" in request else decode(request)
print(json.dumps(answer))
