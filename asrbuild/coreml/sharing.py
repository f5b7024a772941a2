"""Weights that several functions of a package share, found by their values.

DeepSpeech's program names the weights of its functions. Of a network that was lowered once for each
function, equal constants of two functions become one entry of ``weight.bin``; otherwise a package
of three functions has its weights three times.
"""

from __future__ import annotations

from typing import Any

from asrbuild.coreml.speedups.importing import import_coremltools

PASS = "asrbuild::share_weights"


def add_sharing(pipeline: Any) -> None:
    """Appends the pass to a ``ct.PassPipeline``, behind all that make new constants."""
    import_coremltools()
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    if PASS not in PASS_REGISTRY:

        class ShareWeights(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
            def apply(self, prog: Any) -> None:
                # As ``coremltools.utils.save_multifunction`` does.
                PASS_REGISTRY["common::const_deduplication"]._deduplicate_const_across_functions(
                    prog
                )

        namespace, name = PASS.split("::")
        PASS_REGISTRY.add(namespace, ShareWeights, override=False, name=name)
    pipeline.append_pass(PASS)
