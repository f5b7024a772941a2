"""DeepSpeech: its checkpoints, frozen graphs and .tflite files."""

#: Runs the original in a process; see :mod:`asrbuild.architectures.original`.
WORKER = "asrbuild.architectures.deepspeech.reference"
